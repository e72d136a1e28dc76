"""In-memory stores are process-wide: each test of this room gets empty ones."""

from __future__ import annotations

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
