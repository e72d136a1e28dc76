"""In-memory stores are process-wide: each test of this room gets empty ones. And a folder over HTTP."""

from __future__ import annotations

import http.server
import threading
from functools import partial

import fsspec
import pytest
from sources.flaky import FlakyFileSystem


@pytest.fixture(autouse=True)
def empty_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    FlakyFileSystem.failures.clear()
    monkeypatch.setattr("fastsam_batch.outage.PAUSE_S", 0.001)


@pytest.fixture
def web(tmp_path):
    """The folder over HTTP."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
