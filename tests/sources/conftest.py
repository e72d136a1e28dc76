"""In-memory stores are process-wide: each test of this room gets empty ones. And a folder over HTTP."""

from __future__ import annotations

import http.server
from functools import partial

import fsspec
import pytest
from servers import web_server
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
    with web_server(partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))) as address:
        yield address
