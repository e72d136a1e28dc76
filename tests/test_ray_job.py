"""`ray job submit … jobs/segment_corpus.py` on a real Ray head, shards and corpus on a real S3 server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import pytest
from photographs import write_photographs
from servers import KEYS, ray_head, s3_server, wait_for_port

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
    for number in range(2):
        buffer = BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for file in files:
                tar.add(file, file.name)
        fs.pipe_file(f"photographs/shards/{number:05d}.tar", buffer.getvalue())
    return fs


def submit(environment, *arguments):
    """A job from a working directory without environment or weights of its own; status and log."""
    command = [RAY, "job", "submit", "--working-dir", ".", "--runtime-env-json"]
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


@pytest.mark.timeout(600)
def test_a_submitted_job_makes_a_corpus_on_s3(cluster, shards, tmp_path):
    code, log = submit(
        cluster, "--input", "s3://photographs/shards/", "--output", "s3://photographs/corpus", "--unit-size", 2
    )
    assert code == 0, log
    line = next(line for line in log.splitlines() if line.startswith('{"images"'))
    summary = json.loads(line)
    assert (summary["images"], summary["failed"], summary["units"]) == (2 * len(NAMES), 0, 4)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in log

    verified = local(cluster, "jobs/verify_corpus.py", "--corpus", "s3://photographs/corpus")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    arguments = ["--text", "a cup of coffee", "--output", "s3://photographs/hits.jsonl", "--gallery"]
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


def test_ports_that_nobody_opens_are_reported():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    with pytest.raises(RuntimeError, match="ended with status 0"):
        wait_for_port(1, process, 5)
