"""The main job on a real Ray whose driver or actor is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_runs import job, rows, run

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.verify import verify_corpus


def many(photos, folder, copies):
    for copy in range(copies):
        target = folder / f"{copy:02d}"
        target.mkdir(parents=True)
        for path in photos.iterdir():
            (target / f"{copy:02d}-{path.name}").hardlink_to(path)
    return folder


def one_row_group(photos, folder, copies):
    files = sorted(path for path in many(photos, folder, copies).rglob("*") if path.is_file())
    table = pa.table({"image_id": [file.name for file in files], "bytes": [file.read_bytes() for file in files]})
    pq.write_table(table, folder / "images.parquet")
    return folder / "images.parquet"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("make", [many, one_row_group])
def test_killing_the_driver_loses_and_doubles_nothing(local_ray, forked_python, photos, tmp_path, make):
    folder = make(photos, tmp_path / "photos", 6)
    cheap = {"imgsz": 160, "embedder": "none"}  # small networks, so that what takes time is what is tested
    whole = run(folder, tmp_path / "whole", unit_size=1, **cheap)
    corpus = tmp_path / "corpus"
    arguments = ["--input", folder, "--output", corpus, "--unit-size", 1, "--imgsz", 160, "--embedder", "none"]
    driver = job(forked_python, *arguments, start_new_session=True)
    deadline = time.monotonic() + 500
    while len(list(corpus.glob("receipts/*.json"))) < 2:
        assert time.monotonic() < deadline and driver.poll() is None, driver.communicate()
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(30)
    driver.stdout.close()
    driver.stderr.close()
    done = len(list(corpus.glob("receipts/*.json")))
    assert done < whole["units"]
    summary = run(folder, corpus, unit_size=1, **cheap)
    assert summary["units"] + summary["skipped_units"] == whole["units"] == 24
    assert summary["skipped_units"] >= 2
    assert rows(corpus) == rows(tmp_path / "whole")
    assert verify_corpus(str(corpus)).ok


def actor_pids():
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            if title.startswith(b"ray::") and b"SegmentUnits" in title:
                found.append(int(entry.name))
    return found


def test_killing_an_actor_loses_and_doubles_nothing(local_ray, photos, tmp_path):
    folder = many(photos, tmp_path / "photos", 3)
    corpus = tmp_path / "corpus"
    killed = []

    def kill_one():
        deadline = time.monotonic() + 120
        begun = None  # attempts, when the first unit is committed
        while time.monotonic() < deadline and not killed:
            attempts = set(corpus.glob("attempts/*/0001-*"))
            if begun is None and list(corpus.glob("receipts/*.json")):
                begun = attempts
            elif begun is not None and attempts - begun:  # one just began: it is this one that dies
                for pid in actor_pids():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.02)

    thread = threading.Thread(target=kill_one)
    thread.start()
    summary = run(folder, corpus, unit_size=2)
    thread.join()
    assert killed
    assert (summary["units"], summary["images"]) == (6, 12)
    attempts = [receipt["attempt"] for receipt in Corpus.open(str(corpus)).receipts().values()]
    assert max(attempts) >= 2
    run(folder, tmp_path / "whole", unit_size=2)
    assert rows(corpus) == rows(tmp_path / "whole")
    assert verify_corpus(str(corpus)).ok
