"""Runs schedules of faults and compares what is left with an undisturbed run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from servers import KEYS, s3_server
from warm import IMGSZ, IMPATIENT, warm_python

from fastsam_batch.corpus.layout import LEASE_FILE
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.outage import is_storage_error
from fastsam_batch.storage import filesystem, list_names

from .inputs import IMAGES, SHARDS, UNIT_SIZE, write_inputs
from .nodes import Nodes, environment
from .proxy import Proxy
from .schedule import KILLED, Run, Schedule, Strike

DISK_BYTES = 8 * 2**20
RUN_S = 300.0  # after which a run counts as hung
RERUNS = 6
HUNG = 99  # in place of an exit status
BUCKET = "chaos"
OPTIONS = ("--unit-size", str(UNIT_SIZE), "--imgsz", str(IMGSZ), "--conf", "0.05", "--crop", "masked", "--actors", "1")
# A request that gets no answer is given up after 1.5 s, and botocore leaves the second attempt to its callers.
CLIENT = {
    "AWS_MAX_ATTEMPTS": "1",
    "FSSPEC_S3": json.dumps({"config_kwargs": {"read_timeout": 1.5, "connect_timeout": 4}}),
}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Outcome:
    """What became of a schedule: `wrong` is empty where the corpus equals the undisturbed one."""

    schedule: Schedule
    exits: tuple[int, ...]
    faults: int
    struck: tuple[str, ...]
    wrong: tuple[str, ...]
    seconds: float


class Harness:
    """A store behind a proxy, a cluster, the inputs, and the corpora of undisturbed runs."""

    def __init__(self, folder: Path, run_s: float = RUN_S, ray: bool = True) -> None:
        """`ray` False leaves Ray out: the job's stages run in the driver, which makes schedules cheap."""
        self._folder = folder
        self._run_s = run_s
        self._stack = contextlib.ExitStack()
        for name in ("weed", "tmp"):
            (folder / name).mkdir(parents=True)
        os.environ |= {**environment(), **CLIENT, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
        server = self._stack.enter_context(s3_server(folder / "weed"))
        self._proxy = Proxy(int(server["AWS_ENDPOINT_URL"].rpartition(":")[2]))
        self._stack.callback(self._proxy.close)
        os.environ |= {**server, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._proxy.port}"}
        filesystem(f"s3://{BUCKET}")[0].clear_instance_cache()  # they would go on with the last store's address
        self._python, forks = self._stack.enter_context(warm_python(folder, IMPATIENT))
        self._disk = self._stack.enter_context(_small_disk(folder / "disk"))
        self._make_inputs()
        self._nodes = Nodes(self._python, forks) if ray else None
        if self._nodes:
            self._stack.callback(self._nodes.close)
        self._steps: dict[tuple[str, str], tuple[int, int]] = {}
        self._expected: dict[str, tuple[pa.Table, pa.Table]] = {}

    def close(self) -> None:
        """Stop everything."""
        self._stack.close()

    def undisturbed(self, source: str, output: str) -> tuple[int, int]:
        """Steps of a run without faults, and of one that finds all done. Its rows are what others must equal."""
        if (source, output) in self._steps:
            return self._steps[source, output]
        uri = self._output(output, f"undisturbed-{source}")
        steps = []
        for _ in range(2):
            code, _struck = self._run(Run(), source, uri, 0, "undisturbed")
            told = [(self._folder / f"undisturbed.{kind}").read_text() for kind in ("out", "err")]
            assert code == 0, (code, *told)
            steps.append(self._steps_of(uri))
        assert verify_corpus(uri).ok
        found = rows(uri)
        assert found[0].num_rows == (SHARDS if source == "shards" else IMAGES) and found[1].num_rows > IMAGES
        assert set(found[0]["status"].to_pylist()) == {"ok"} and found[1]["embedding"].null_count < found[1].num_rows
        expected = self._expected.setdefault(source, found)
        assert all(mine.equals(theirs) for mine, theirs in zip(found, expected, strict=True))
        self._steps[source, output] = steps[0], steps[1]
        return self._steps[source, output]

    def play(self, schedule: Schedule) -> Outcome:
        """One schedule, and reruns until the job says that all is done."""
        seed = schedule.seed
        whole, nothing = self.undisturbed(schedule.input, schedule.output)
        began = time.monotonic()
        uri = self._output(schedule.output, f"seed-{seed}")
        exits: list[int] = []
        struck: list[str] = []
        faults = 0
        wrong: list[str] = []
        for number in range(len(schedule.runs) + RERUNS):
            disturbed = number < len(schedule.runs)
            run = schedule.runs[number] if disturbed else Run()
            left = 1 - self._units(uri) / self._units(self._output(schedule.output, f"undisturbed-{schedule.input}"))
            steps = round(nothing + (whole - nothing) * left)
            code, hits = self._run(run, schedule.input, uri, seed * 100 + number, f"seed-{seed}", steps)
            exits.append(code)
            struck += hits
            faults += self._proxy.faults
            self._restore()
            # A store that fails to the very end leaves the lease of a job that is done: the next run takes it away.
            if code == 0 and number >= len(schedule.runs) - 1 and not self._leased(uri):
                break
            if not disturbed and code == HUNG:
                wrong.append("an undisturbed rerun hung")
        else:
            wrong.append(f"the job never ended with 0: {exits}")
        wrong += self._compare(schedule.input, uri, self._folder / f"seed-{seed}")
        if not wrong:
            self._clean(schedule.output, uri, seed)
        return Outcome(schedule, tuple(exits), faults, tuple(struck), tuple(wrong), time.monotonic() - began)

    def _run(self, run: Run, source: str, uri: str, seed: int, name: str, steps: int = 0) -> tuple[int, list[str]]:
        """One run of the job with its faults; the exit status and what was struck."""
        rng, struck = random.Random(seed), []
        waiting = list(run.strikes)
        busy = threading.Lock()
        arguments = ["--input", f"s3://{BUCKET}/{source}/", "--output", uri, *OPTIONS]
        address = {"RAY_ADDRESS": self._nodes.address} if self._nodes else {}
        logs = [(self._folder / f"{name}.{kind}").open("ab") for kind in ("out", "err")]
        begun: list[subprocess.Popen[bytes]] = []

        def watch(_: int, port: int | None) -> None:
            """Strike if it is time, while the request from this port waits."""
            if not waiting or not begun or not busy.acquire(blocking=False):
                return
            with contextlib.ExitStack() as stack:
                stack.callback(busy.release)
                gone = self._steps_of(uri)
                for strike in [strike for strike in waiting if gone >= strike.at * steps * 0.9]:
                    time.sleep(strike.delay)
                    hit = self._strike(strike, begun[0], rng, port)
                    if hit:
                        waiting.remove(strike)
                        struck.append(hit)

        self._proxy.begin(seed, tuple(storm.trouble(steps) for storm in run.storms), watch)
        begun.append(
            subprocess.Popen(
                [self._python, HERE / "drive.py", *arguments],
                env={**os.environ, **address},
                stdin=subprocess.DEVNULL,
                stdout=logs[0],
                stderr=logs[1],
            )
        )
        process = begun[0]
        deadline = time.monotonic() + self._run_s
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
            watch(0, None)
            if self._nodes:
                with busy:
                    self._nodes.replace()
        hung = process.poll() is None
        process.kill()
        self._proxy.calm()
        for log in logs:
            log.close()
        return HUNG if hung else process.wait(), struck

    def _strike(
        self, strike: Strike, process: subprocess.Popen[bytes], rng: random.Random, port: int | None
    ) -> str | None:
        """Do it, and say what was struck; None where it finds nothing to strike yet."""
        if process.poll() is not None:
            return None
        if strike.target == "driver" or (self._nodes is None and strike.target in (*KILLED, "head")):
            process.kill()
            return "driver"
        if strike.target == "disk":
            self._fill_disk()
            return "disk"
        if strike.target == "temporary":
            among = [*(self._folder / "tmp").rglob("*"), *self._disk.rglob(".*.tmp")]
            found = [path for path in among if path.is_file()]
            for path in found:
                path.unlink(missing_ok=True)
            return "temporary" if found else None
        return self._nodes.kill(strike.target, rng, port) if self._nodes else None

    def _steps_of(self, uri: str) -> int:
        """How far a run has come: requests to the store, and files in a local output."""
        files = 0 if "://" in uri else sum(len(names) for _, _, names in os.walk(uri))
        return self._proxy.requests + files

    def _units(self, uri: str) -> int:
        fs, root = filesystem(uri)
        return len(list_names(fs, f"{root}/receipts"))

    def _leased(self, uri: str) -> bool:
        fs, root = filesystem(uri)
        fs.invalidate_cache()
        return bool(fs.exists(f"{root}/{LEASE_FILE}"))

    def _restore(self) -> None:
        (self._disk / "ballast").unlink(missing_ok=True)
        if self._nodes:
            self._nodes.complete()

    def _fill_disk(self) -> None:
        with contextlib.suppress(OSError), (self._disk / "ballast").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    def _compare(self, source: str, uri: str, log: Path) -> list[str]:
        """What is lost, doubled, different, broken, left over or told that must not be."""
        wrong = []
        try:
            report = verify_corpus(uri)
            wrong += [f"{problem.file}: {problem.problem}" for problem in report.problems]
            images, masks = rows(uri)
        except Exception as error:  # noqa: BLE001 - an unreadable corpus is the schedule's result
            return [*wrong, f"the corpus cannot be read: {error!r}"]
        expected_images, expected_masks = self._expected[source]
        lost = set(expected_images["image_id"].to_pylist()) - set(images["image_id"].to_pylist())
        wrong += [f"{len(lost)} images lost"] if lost else []
        doubled = images.num_rows - len(set(images["image_id"].to_pylist()))
        wrong += [f"{doubled} images doubled"] if doubled else []
        if not (images.equals(expected_images) and masks.equals(expected_masks)) and not lost and not doubled:
            wrong.append(f"rows differ: {_difference(images, expected_images)} {_difference(masks, expected_masks)}")
        fs, root = filesystem(uri)
        if self._leased(uri):
            wrong.append("the lease remains")
        told = [path.read_bytes() for path in (log.with_suffix(".out"), log.with_suffix(".err")) if path.exists()]
        stored = [fs.cat_file(path) for path in fs.find(root)]
        if any(KEYS["AWS_SECRET_ACCESS_KEY"].encode() in data for data in (*told, *stored)):
            wrong.append("a credential was written")
        return wrong

    def _output(self, kind: str, name: str) -> str:
        return f"s3://{BUCKET}/out/{name}" if kind == "s3" else str(self._disk / name)

    def _clean(self, kind: str, uri: str, seed: int) -> None:
        if kind == "local":
            shutil.rmtree(uri)
        for path in self._folder.glob(f"seed-{seed}.*"):
            path.unlink()

    def _make_inputs(self) -> None:
        fs, _ = filesystem(f"s3://{BUCKET}")
        deadline = time.monotonic() + 120
        while True:
            try:
                fs.mkdir(BUCKET)
                break
            except Exception as error:
                if not is_storage_error(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)  # the port answers before the store is ready
        write_inputs(fs, BUCKET)


def rows(uri: str) -> tuple[pa.Table, pa.Table]:
    """All images and masks of a corpus, every column, in an order of their own."""
    corpus = Corpus.open(uri)
    order = [("image_id", "ascending"), ("mask_index", "ascending")]
    return corpus.images().sort_by("image_id").combine_chunks(), corpus.masks().sort_by(order).combine_chunks()


def _difference(found: pa.Table, expected: pa.Table) -> str:
    if found.num_rows != expected.num_rows:
        return f"{found.num_rows} rows for {expected.num_rows}"
    differing = [name for name in expected.column_names if not found[name].equals(expected[name])]
    return f"columns {differing}" if differing else "equal"


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    """A small file system of its own, where this user may mount one; else a plain folder, which never fills."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(folder)], check=False)
