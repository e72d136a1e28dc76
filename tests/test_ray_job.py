"""`ray job submit … jobs/segment_corpus.py` on a real Ray head, shards and corpus on a real S3 server."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from io import BytesIO
from pathlib import Path

import pytest
from corpus.made_corpus import corpus_info
from photographs import write_photographs
from servers import KEYS, ray_head, s3_server, wait_for_port

from fastsam_batch.corpus.plan import PlanRow, write_plan
from fastsam_batch.corpus.schema import contract

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).parent / "ray")
NAMES = ["chelsea", "coffee", "rocket"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if shutil.which("weed", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("no SeaweedFS: it is not built for this platform")
    folder = tmp_path_factory.mktemp("servers")
    with s3_server(folder) as s3, ray_head(folder, s3) as environment:
        yield environment


@pytest.fixture(scope="module")
def shards(cluster, tmp_path_factory):
    import s3fs

    fs = s3fs.S3FileSystem(
        key=KEYS["AWS_ACCESS_KEY_ID"], secret=KEYS["AWS_SECRET_ACCESS_KEY"], endpoint_url=cluster["AWS_ENDPOINT_URL"]
    )
    files = write_photographs(tmp_path_factory.mktemp("photos"), NAMES)
    deadline = time.monotonic() + 60
    while True:
        try:
            fs.mkdir("photographs")
            break
        except OSError:  # the port answers before the store is ready
            assert time.monotonic() < deadline
            time.sleep(0.5)
    for file in files:
        fs.pipe_file(f"photographs/png/{file.name}", file.read_bytes())
    for number in range(2):
        buffer = BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for file in files:
                tar.add(file, file.name)
        fs.pipe_file(f"photographs/shards/{number:05d}.tar", buffer.getvalue())
    return fs


def receipts(fs, corpus):
    fs.invalidate_cache()
    return fs.glob(f"{corpus}/receipts/*.json")


def job_request(environment, path, method):
    """What `ray job status` and `ray job stop` ask; the program takes seconds to start, and the job would be over."""
    request = urllib.request.Request(
        f"{environment['RAY_ADDRESS']}/api/jobs/{path}",
        method=method,
        headers={"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def submit(environment, *arguments, options=()):
    """A job from a working directory without environment or weights of its own; status and log."""
    command = [RAY, "job", "submit", *options, "--working-dir", ".", "--runtime-env-json"]
    command += [json.dumps({"excludes": [".venv", ".git", "out", "tests"]}), "--", sys.executable]
    done = subprocess.run(
        [*command, "jobs/segment_corpus.py", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    return done.returncode, done.stdout + done.stderr


def local(environment, *arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )


@contextlib.contextmanager
def watched_metrics(environment):
    """The job's counters by name and label, the highest sum over all processes that was seen while it ran."""
    highest = {}
    over = threading.Event()

    def watch():
        while not over.wait(0.2):
            with contextlib.suppress(OSError):
                text = urllib.request.urlopen(environment["TEST_METRICS"], timeout=5).read().decode()
                for key, value in summed(text).items():
                    highest[key] = max(highest.get(key, 0), value)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield highest
    finally:
        over.set()
        thread.join()


def summed(text):
    """Values of fastsam_batch metrics in Prometheus' text, by name and own label, summed over workers."""
    sums = collections.Counter()
    for name, labels, value in re.findall(r"^ray_fastsam_batch_(\w+)\{(.*?)\} (\S+)$", text, re.MULTILINE):
        label = re.search(r'\b(?:kind|stage|model)="(\w+)"', labels, re.IGNORECASE)
        sums[name, label and label[1]] += float(value)
    return sums


@pytest.fixture(scope="module")
def finished(cluster, shards):
    """The log of the first job, whose corpus the others are compared with, and the metrics it gave."""
    with watched_metrics(cluster) as metrics:
        code, log = submit(
            cluster, "--input", "s3://photographs/shards/", "--output", "s3://photographs/corpus", "--unit-size", 2
        )
    assert code == 0, log
    return log, metrics


@pytest.mark.timeout(600)
def test_a_submitted_job_makes_a_corpus_on_s3(cluster, shards, finished, tmp_path):
    log, _ = finished
    line = next(line for line in log.splitlines() if line.startswith('{"images"'))
    summary = json.loads(line)
    assert (summary["images"], summary["failed"], summary["units"]) == (2 * len(NAMES), 0, 4)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in log

    verified = local(cluster, "jobs/verify_corpus.py", "--corpus", "s3://photographs/corpus")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    arguments = ["--text", "a cup of coffee", "--min-score", 0, "--output", "s3://photographs/hits.jsonl", "--gallery"]
    found = local(
        cluster, "jobs/search_masks.py", "--corpus", "s3://photographs/corpus", *arguments, tmp_path / "hits.png"
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "hits.png").stat().st_size > 10_000
    hits = [json.loads(line) for line in shards.cat_file("photographs/hits.jsonl").splitlines()]
    assert hits[0]["uri"].startswith("s3://photographs/shards/0000")
    stored = [shards.cat_file(path) for path in shards.find("photographs/corpus")]
    assert not any(KEYS["AWS_SECRET_ACCESS_KEY"].encode() in data for data in stored)

    code, log = submit(cluster, "--input", "s3://photographs/shards/", "--output", "s3://photographs/corpus")
    assert code == 0, log
    assert '"units": 0, "skipped_units": 4' in log


@pytest.mark.timeout(300)
def test_a_bad_input_fails_the_job_with_its_sentence(cluster, shards):
    code, log = submit(cluster, "--input", "s3://photographs/none/", "--output", "s3://photographs/other")
    assert code != 0
    assert "error: s3://photographs/none/" in log
    assert "exit code 2" in log
    assert not shards.exists("photographs/other")


def test_prometheus_sees_what_the_job_does(finished):
    _, metrics = finished
    # The last unit's numbers may be fetched by nobody: its worker ends with the job.
    assert 2 <= metrics["images_total", None] <= 2 * len(NAMES)
    assert metrics["masks_total", None] > 0 and metrics["read_bytes_total", None] > 100_000
    assert {stage for name, stage in metrics if name == "stage_seconds_total"} >= {
        "decode",
        "detect",
        "masks",
        "commit",
    }
    assert 1 <= metrics["units_total", None] <= 4 and metrics["written_bytes_total", None] > 1000


def corpora_rows(environment, *uris):
    """Of each corpus, masks without their embeddings by image and index."""
    code = (
        "import json, sys; from fastsam_batch import Corpus; "
        "columns = ['image_id', 'mask_index', 'area', 'bbox', 'rle']; "
        "print(json.dumps([Corpus.open(uri).masks(columns).to_pylist() for uri in sys.argv[1:]]))"
    )
    done = local(environment, "-c", code, *uris)
    assert done.returncode == 0, done.stderr
    for rows in json.loads(done.stdout):
        found = collections.defaultdict(dict)
        for row in rows:
            found[row.pop("image_id")][row.pop("mask_index")] = row
        yield dict(found)


@pytest.mark.timeout(400)
def test_a_job_that_is_stopped_goes_on_when_submitted_again(cluster, shards, finished, tmp_path):
    copies = 3
    for number in range(2):
        photographs = {name: shards.cat_file(f"photographs/png/{name}.png") for name in NAMES}
        buffer = BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for copy in range(copies):
                for name, data in photographs.items():
                    info = tarfile.TarInfo(f"{copy}/{name}.png")
                    info.size = len(data)
                    tar.addfile(info, BytesIO(data))
        shards.pipe_file(f"photographs/many/{number:05d}.tar", buffer.getvalue())
    output = "photographs/stopped"
    arguments = ["--input", "s3://photographs/many/", "--output", f"s3://{output}", "--unit-size", 1]
    code, log = submit(cluster, *arguments, options=["--no-wait", "--submission-id", "to-be-stopped"])
    assert code == 0, log
    deadline = time.monotonic() + 200
    while len(receipts(shards, output)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert job_request(cluster, "to-be-stopped/stop", "POST") == {"stopped": True}
    while (status := job_request(cluster, "to-be-stopped", "GET")["status"]) != "STOPPED":
        assert time.monotonic() < deadline and status == "RUNNING", status
        time.sleep(0.1)
    done = len(receipts(shards, output))
    assert 2 <= done < 2 * copies * len(NAMES)

    code, log = submit(cluster, *arguments)
    assert code == 0, log
    summary = json.loads(next(line for line in log.splitlines() if line.startswith('{"images"')))
    assert summary["skipped_units"] >= done
    assert summary["skipped_units"] + summary["units"] == 2 * copies * len(NAMES)
    told = local(cluster, "jobs/status_corpus.py", "--corpus", f"s3://{output}")
    status = json.loads(told.stdout.splitlines()[-1])
    assert status["finished"] and status["units"] == status["images"] == 2 * copies * len(NAMES)
    undisturbed, found = corpora_rows(cluster, "s3://photographs/corpus", f"s3://{output}")
    assert found == {
        f"{number:05d}.tar/{copy}/{name}.png": undisturbed[f"{number:05d}.tar/{name}.png"]
        for number in range(2)
        for copy in range(copies)
        for name in NAMES
    }


def test_status_reads_many_receipts_of_an_object_store_at_once(cluster, shards, tmp_path):
    one = dict.fromkeys(contract("receipt")["required"]) | {"shard": "", "last": False, "images": 10, "failed": 0}
    one |= {"masks": 7, "failures": {}, "attempt": 1, "files": {}, "created_at": "2026-01-02T03:04:05+00:00"}
    for unit_id in (f"u-{number:09d}" for number in range(80)):
        shards.pipe_file(f"photographs/seen/receipts/{unit_id}.json", json.dumps(one | {"unit_id": unit_id}).encode())
    shards.pipe_file("photographs/seen/corpus.json", json.dumps(corpus_info(None)).encode())
    write_plan(str(tmp_path), 1, [PlanRow("u", "u.tar", "stream", 0, None, 10)])
    shards.pipe_file("photographs/seen/plan/0001.parquet", (tmp_path / "plan" / "0001.parquet").read_bytes())
    code = (
        "import logging, sys; logging.basicConfig(level='INFO'); "
        "from fastsam_batch.corpus.status import corpus_status; print(corpus_status(sys.argv[1]).images)"
    )
    done = local(cluster, "-c", code, "s3://photographs/seen")
    assert done.stdout.strip() == "800", done.stderr
    assert "Arrow cannot read" not in done.stderr


@pytest.mark.timeout(300)
def test_too_many_failures_fail_the_job_with_its_exit_code(cluster, shards):
    shards.pipe_file("photographs/bad/a.jpg", b"this is no photograph")
    arguments = ["--input", "s3://photographs/bad/", "--output", "s3://photographs/failed", "--embedder", "none"]
    code, log = submit(cluster, *arguments, "--max-failed-fraction", 0)
    assert code != 0
    assert "exit code 3" in log and '"failures": {"not_an_image": 1}' in log


def test_ports_that_nobody_opens_are_reported():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    with pytest.raises(RuntimeError, match="ended with status 0"):
        wait_for_port(1, process, 5)
