"""Runs schedules of faults and compares what is left with an undisturbed run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from servers import KEYS, s3_server

from fastsam_batch.corpus.layout import LEASE_FILE
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.outage import is_storage_error
from fastsam_batch.storage import filesystem

from .driver import Drivers
from .nodes import Nodes
from .proxy import Proxy
from .schedule import KILLED, Run, Schedule, Strike

IMAGES, UNIT_SIZE = 24, 3
SHARDS = 64  # of one image each, in the input `shards`
DISK_BYTES = 4 * 2**20
RUN_S = 300.0  # after which a run counts as hung
RERUNS = 6
HUNG = 99  # in place of an exit status
BUCKET = "chaos"


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
        (folder / "weed").mkdir(parents=True)
        server = self._stack.enter_context(s3_server(folder / "weed"))
        self._direct = server["AWS_ENDPOINT_URL"]
        self._proxy = Proxy(int(self._direct.rpartition(":")[2]))
        self._stack.callback(self._proxy.close)
        os.environ |= {
            **server,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._proxy.port}",
            "AWS_MAX_ATTEMPTS": "2",
            "FSSPEC_S3": json.dumps({"config_kwargs": {"read_timeout": 4, "connect_timeout": 4}}),
            "TMPDIR": str(folder / "tmp"),
        }
        (folder / "tmp").mkdir()
        self._disk = self._stack.enter_context(_small_disk(folder / "disk"))
        self._nodes = Nodes() if ray else None
        if self._nodes:
            self._stack.callback(self._nodes.close)
        self._drivers = Drivers()
        self._make_inputs()
        self.requests: dict[tuple[str, str], int] = {}
        self._expected: dict[str, tuple[pa.Table, pa.Table]] = {}

    def close(self) -> None:
        """Stop everything."""
        self._stack.close()

    def undisturbed(self, source: str, output: str) -> None:
        """Run once without faults: what the input's corpora must equal, and how many requests a run makes."""
        if (source, output) in self.requests:
            return
        uri = self._output(output, f"undisturbed-{source}")
        code, _ = self._run(Run(), source, uri, 0, "undisturbed")
        log = (self._folder / "undisturbed.err").read_text()
        assert code == 0, log
        assert verify_corpus(uri).ok
        self.requests[source, output] = self._proxy.requests
        found = rows(uri)
        assert found[0].num_rows == (SHARDS if source == "shards" else IMAGES) and found[1].num_rows > 0
        assert self._expected.setdefault(source, found)[1].equals(found[1])

    def play(self, schedule: Schedule) -> Outcome:
        """One schedule, and reruns until the job says that all is done."""
        seed = schedule.seed
        self.undisturbed(schedule.input, schedule.output)
        began = time.monotonic()
        uri = self._output(schedule.output, f"seed-{seed}")
        exits: list[int] = []
        struck: list[str] = []
        faults = 0
        wrong: list[str] = []
        for number in range(len(schedule.runs) + RERUNS):
            disturbed = number < len(schedule.runs)
            run = schedule.runs[number] if disturbed else Run()
            requests = self.requests[schedule.input, schedule.output]
            code, hits = self._run(run, schedule.input, uri, seed * 100 + number, f"seed-{seed}", requests)
            exits.append(code)
            struck += hits
            faults += self._proxy.faults
            self._restore()
            if code == 0 and number >= len(schedule.runs) - 1:
                break
            if not disturbed and code == HUNG:
                wrong.append("an undisturbed rerun hung")
        else:
            wrong.append(f"the job never ended with 0: {exits}")
        wrong += self._compare(schedule.input, uri, self._folder / f"seed-{seed}")
        if not wrong:
            self._clean(schedule.output, uri, seed)
        return Outcome(schedule, tuple(exits), faults, tuple(struck), tuple(wrong), time.monotonic() - began)

    def _run(self, run: Run, source: str, uri: str, seed: int, name: str, requests: int = 0) -> tuple[int, list[str]]:
        """One run of the job with its faults; the exit status and what was struck."""
        rng, struck = random.Random(seed), []
        waiting = list(run.strikes)
        lock = threading.Condition()
        reached = 0

        def watch(count: int) -> None:
            nonlocal reached
            with lock:
                reached = count
                lock.notify()

        self._proxy.begin(seed, tuple(storm.trouble(requests) for storm in run.storms), watch)
        arguments = ["--input", f"s3://{BUCKET}/{source}/", "--output", uri, "--unit-size", str(UNIT_SIZE)]
        arguments += ["--imgsz", "64", "--embedder", "none", "--actors", "1"]
        environment = {"RAY_ADDRESS": self._nodes.address} if self._nodes else {}
        process = self._drivers.start(arguments, environment, self._folder / name)
        deadline = time.monotonic() + self._run_s
        while process.is_alive() and time.monotonic() < deadline:
            with lock:
                lock.wait(0.1)
                due = bool(waiting) and reached >= waiting[0].at * requests
            if due:
                strike = waiting.pop(0)
                time.sleep(strike.delay)
                if self._strike(strike, process, uri, rng):
                    struck.append(strike.target)
        hung = process.is_alive()
        if hung:
            process.kill()
        process.join(30)
        self._proxy.calm()
        code = HUNG if hung else process.exitcode
        process.close()
        return code if code is not None else HUNG, struck

    def _strike(self, strike: Strike, process: Any, uri: str, rng: random.Random) -> bool:
        if strike.target == "driver" or (self._nodes is None and strike.target in KILLED):
            process.kill()
            return True
        if strike.target == "disk":
            self._fill_disk()
            return True
        if strike.target == "temporary":
            for path in [*(self._folder / "tmp").rglob("*"), *self._disk.rglob(".*.tmp")]:
                if path.is_file():
                    path.unlink(missing_ok=True)
            return True
        return self._nodes is not None and self._nodes.kill(strike.target, rng)

    def _restore(self) -> None:
        (self._disk / "ballast").unlink(missing_ok=True)
        if self._nodes:
            self._nodes.complete()

    def _fill_disk(self) -> None:
        with contextlib.suppress(OSError), (self._disk / "ballast").open("wb") as file:
            while True:
                file.write(bytes(64 * 1024))
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
        fs.invalidate_cache()
        if fs.exists(f"{root}/{LEASE_FILE}"):
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
        import s3fs

        fs = s3fs.S3FileSystem(
            key=KEYS["AWS_ACCESS_KEY_ID"], secret=KEYS["AWS_SECRET_ACCESS_KEY"], endpoint_url=self._direct
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                fs.mkdir(BUCKET)
                break
            except Exception as error:
                if not is_storage_error(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)  # the port answers before the store is ready
        images = {f"{number:02d}.png": tiny_image(number) for number in range(IMAGES)}
        for name, data in images.items():
            fs.pipe_file(f"{BUCKET}/folder/{name}", data)
        names = list(images)
        for shard in range(3):
            some = names[shard * 8 : shard * 8 + 8]
            fs.pipe_file(f"{BUCKET}/tar/{shard}.tar", tar_of({name: images[name] for name in some}))
        for shard in range(SHARDS):
            fs.pipe_file(f"{BUCKET}/shards/{shard:02d}.tar", tar_of({"image.png": tiny_image(shard)}))
        for shard in range(2):
            some = names[shard * 12 : shard * 12 + 12]
            buffer = io.BytesIO()
            pq.write_table(pa.table({"image_id": some, "bytes": [images[name] for name in some]}), buffer)
            fs.pipe_file(f"{BUCKET}/parquet/{shard}.parquet", buffer.getvalue())


def rows(uri: str) -> tuple[pa.Table, pa.Table]:
    """All images and masks of a corpus, every column, in an order of their own."""
    corpus = Corpus.open(uri)
    order = [("image_id", "ascending"), ("mask_index", "ascending")]
    return corpus.images().sort_by("image_id").combine_chunks(), corpus.masks().sort_by(order).combine_chunks()


def tiny_image(number: int) -> bytes:
    """A PNG of 64 x 48 with a few bright boxes."""
    rng = np.random.default_rng(number)
    pixels = np.full((48, 64, 3), 30, np.uint8)
    for _ in range(4):
        y, x = rng.integers(0, 36), rng.integers(0, 48)
        pixels[y : y + 12, x : x + 14] = rng.integers(90, 255, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar archive of the files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


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
