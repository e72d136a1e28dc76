"""The serve command as it is started: where it listens, how it ends, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from corpus.made_corpus import MadeCorpus, make_corpus

from fastsam_batch.cli import job

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_serves_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    made = make_corpus(str(tmp_path / "corpus"), tmp_path, dim=None)
    command = [sys.executable, "jobs/serve_search.py", "--corpus", made.uri, "--port", "0", "--token", "a-long-secret"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stderr is not None
        line = server.stdout.readline().decode()
        address = line.split(" is at ")[1].split("?")[0]
        assert "a-long-secret" not in line
        assert httpx.get(address, timeout=60).status_code == 401
        with httpx.Client(follow_redirects=True, timeout=60) as client:
            page = client.get(address, params={"token": "a-long-secret"})
            assert page.status_code == 200 and "<!doctype html>" in page.text and "token" not in str(page.url)
            assert client.get(f"{address}api/corpus").json()["searchable"] is False
        server.send_signal(number)
        rest, said = server.communicate(timeout=60)
    assert server.returncode == 0
    summary = json.loads(rest.decode().splitlines()[-1])
    assert summary["url"] == address and summary["requests"] >= 4
    assert b"a-long-secret" not in rest + said


def test_a_port_that_is_taken_and_a_place_that_is_no_corpus(made_once: MadeCorpus, capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert job("serve", ["--corpus", made_once.uri, "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1, port {port} (" in capsys.readouterr().err
    assert job("serve", ["--corpus", made_once.uri, "--port", "700000"]) == 2
    assert "a port is at most 65535" in capsys.readouterr().err
    assert job("serve", ["--corpus", "/nowhere"]) == 2
    assert "is not a corpus" in capsys.readouterr().err
