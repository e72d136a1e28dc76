"""One job at a time on an output, and a killed one in nobody's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from fastsam_batch.corpus import lease as lease_module
from fastsam_batch.corpus.lease import Lease, hold
from fastsam_batch.errors import InputError
from fastsam_batch.storage import create_new, filesystem


def test_a_second_job_stops_with_a_sentence_and_goes_on_after_the_first(tmp_path):
    uri = str(tmp_path / "corpus")
    first = Lease(uri, beat_s=0.1)
    first.acquire()
    with pytest.raises(InputError, match=rf"another job writes to {uri} \(process {os.getpid()} on .*, since 20"):
        Lease(uri).acquire(silent_s=30)
    first.check()
    first.release()
    assert not (tmp_path / "corpus").exists()
    with hold(uri):
        (tmp_path / "corpus" / "corpus.json").write_text("{}")
    assert [path.name for path in (tmp_path / "corpus").iterdir()] == ["corpus.json"]


def test_a_killed_job_s_lease_is_free_at_once_on_its_machine(tmp_path):
    uri = str(tmp_path / "corpus")
    script = "import sys, os; from fastsam_batch.corpus.lease import Lease; Lease(sys.argv[1]).acquire(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script, uri], check=False).returncode == 9
    assert (tmp_path / "corpus" / "lease.json").exists()
    began = time.monotonic()
    with hold(uri) as lease:
        assert json.loads((tmp_path / "corpus" / "lease.json").read_text())["run"] == lease.run
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("where", ["{}/corpus", "memory://lease/corpus"])
def test_another_machine_s_lease_falls_when_it_is_silent(tmp_path, where):
    uri = where.format(tmp_path)
    fs, root = filesystem(uri)
    assert create_new(fs, f"{root}/lease.json", b'{"run": "other", "host": "elsewhere", "pid": 1, "beat": 3}')
    began = time.monotonic()
    lease = Lease(uri)
    lease.acquire(silent_s=1.5)
    assert 1.5 <= time.monotonic() - began < 10
    lease.check()
    lease.release()
    assert not fs.exists(f"{root}/lease.json")


def test_a_job_that_lost_its_lease_is_told(tmp_path):
    uri = str(tmp_path / "corpus")
    lease = Lease(uri, beat_s=0.05)
    lease.acquire()
    (tmp_path / "corpus" / "lease.json").write_text('{"run": "other", "host": "elsewhere", "pid": 7}')
    deadline = time.monotonic() + 10
    while lease._lost is None and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(InputError, match=r"process 7 on elsewhere.*silent too long and stops"):
        lease.check()
    lease.release()
    assert "other" in (tmp_path / "corpus" / "lease.json").read_text()


@pytest.mark.parametrize("where", ["{}/new", "memory://create/new"])
def test_of_many_that_create_one_wins(tmp_path, where):
    fs, path = filesystem(where.format(tmp_path))
    won = []

    def create(number):
        if create_new(fs, path, b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert fs.cat_file(path) == b"%d" % won[0]
    assert create_new(fs, path, b"%d" % won[0])  # our own request again, its first answer lost
    assert len(fs.ls(fs._parent(path))) == 1


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"file/corpus: cannot be written"):
        Lease(str(tmp_path / "file" / "corpus")).acquire()


def test_a_refusal_ends_no_renewing(tmp_path, monkeypatch):
    """A file system that is read-only for a moment: the lease goes on afterwards, as after an outage."""
    refused = threading.Event()
    write = lease_module.write_atomic

    def refuse_once(*arguments):
        if not refused.is_set():
            refused.set()
            raise PermissionError("read-only for a moment")
        write(*arguments)

    monkeypatch.setattr(lease_module, "write_atomic", refuse_once)
    lease = Lease(str(tmp_path / "corpus"), beat_s=0.05)
    lease.acquire()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if json.loads((tmp_path / "corpus" / "lease.json").read_text()).get("beat", 0) > 1:
            break
        time.sleep(0.02)
    assert refused.is_set() and lease._renewing.is_alive() and lease._beats > 1
    lease.release()
