"""Keys of a store come from the environment and are found nowhere else: not in output, logs, plan or receipts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import s3fs
from chaos.inputs import small_photographs
from servers import s3_server

ROOT = Path(__file__).parents[1]
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA0NEVER0TOLD0000", "AWS_SECRET_ACCESS_KEY": "secret-never-told-0000"}
WRONG = "another-secret-never-told-1111"
TOKEN = "session-token-never-told-2222"
SECRETS = (*KEYS.values(), WRONG, TOKEN)


@pytest.fixture(scope="module")
def store():
    """A server that knows one pair of keys, a bucket `data` with two photographs, and a short folder for Ray."""
    if shutil.which("weed", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("no SeaweedFS: it is not built for this platform")
    folder = Path(tempfile.mkdtemp(prefix="keys-"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)  # the server's own administrator
        (folder / "weed").mkdir()
        with s3_server(folder / "weed") as server:
            environment = {**os.environ, **server, **KEYS, "RAY_ADDRESS": "local", "TMPDIR": str(folder)}
            fs = s3fs.S3FileSystem(
                key=KEYS["AWS_ACCESS_KEY_ID"],
                secret=KEYS["AWS_SECRET_ACCESS_KEY"],
                endpoint_url=server["AWS_ENDPOINT_URL"],
            )
            deadline = time.monotonic() + 120
            while True:
                try:
                    fs.mkdir("data")
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.5)  # the port answers before the store is ready
            for name, data in small_photographs()[:2]:
                fs.pipe_file(f"data/photographs/{name}", data)
            yield folder, fs, environment
    shutil.rmtree(folder, ignore_errors=True)


def segment(store, *arguments, **environment):
    """The job's exit status, and all that it said or left in its temporary folder."""
    folder, _, base = store
    command = [sys.executable, str(ROOT / "jobs" / "segment_corpus.py"), *arguments]
    command += ["--imgsz", "64", "--embedder", "none", "--verbose"]
    for _ in range(3):
        done = subprocess.run(
            command, env={**base, **environment}, capture_output=True, text=True, cwd=ROOT, timeout=400, check=False
        )
        if "timed out during startup" not in done.stderr:  # Ray's own patience with a busy machine: 30 s
            break
    files = [path for path in folder.rglob("*") if path.is_file() and folder / "weed" not in path.parents]
    return done, [done.stdout.encode(), done.stderr.encode(), *map(read, files)]


def read(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:  # Ray is still clearing up
        return b""


def assert_nothing_is_told(said):
    for secret in SECRETS:
        assert not [text[max(text.find(secret.encode()) - 200, 0) :][:400] for text in said if secret.encode() in text]


@pytest.mark.timeout(1200)
def test_a_job_leaves_no_credentials_in_its_output_logs_or_corpus(store):
    done, said = segment(store, "--input", "s3://data/photographs/", "--output", "s3://data/corpus")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["images"] == 2
    _, fs, _ = store
    fs.invalidate_cache()
    stored = [fs.cat_file(path) for path in fs.find("data/corpus")]
    assert len(stored) >= 5  # corpus.json, a plan, masks, images, a receipt
    assert_nothing_is_told([*said, *stored])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("source", "output", "environment", "told"),
    [
        ("s3://nowhere/photographs/", "s3://data/a", {}, "nowhere"),
        ("s3://data/photographs/", "s3://data/c", {"AWS_SECRET_ACCESS_KEY": WRONG}, "data"),
        ("s3://data/photographs/", "s3://data/d", {"AWS_SESSION_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": WRONG}, "data"),
        (f"s3://{KEYS['AWS_ACCESS_KEY_ID']}:{WRONG}@data/photographs/", "s3://data/e", {}, "data"),
    ],
    ids=["no such input", "a wrong secret", "a session's token", "keys in the address"],
)
def test_a_failure_tells_no_credentials(store, source, output, environment, told):
    done, said = segment(store, "--input", source, "--output", output, AWS_MAX_ATTEMPTS="1", **environment)
    assert done.returncode in (1, 2), done.stderr
    assert told in done.stderr and "Traceback" not in done.stderr
    assert_nothing_is_told(said)
