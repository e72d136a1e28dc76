"""A store that fails while a corpus is read: tried again, and never told as a broken corpus."""

from __future__ import annotations

import errno
from pathlib import Path

import fsspec
import pytest
from corpus.made_corpus import make_corpus
from sources.flaky import FlakyFileSystem

from fastsam_batch import Corpus
from fastsam_batch.corpus.status import corpus_status
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import ATTEMPTS

URI = "flaky://bucket/corpus"
SLOW_DOWN = OSError(errno.EBUSY, "SlowDown")


@pytest.fixture
def fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A corpus in a store; call it to have openings of a file fail, so many times."""
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    monkeypatch.setattr("fastsam_batch.outage.PAUSE_S", 0.001)
    FlakyFileSystem.failures.clear()
    make_corpus("memory://bucket/corpus", tmp_path)

    def fail(file: str, times: int = 100) -> None:
        FlakyFileSystem.failures[f"/bucket/corpus/{file}"] = [(SLOW_DOWN, 0)] * times

    yield fail
    FlakyFileSystem.failures.clear()
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


@pytest.mark.parametrize("file", ["corpus.json", "receipts/unit-0001.json"])
def test_what_passes_is_tried_again(fails, file):
    fails(file, ATTEMPTS - 1)
    assert len(Corpus.open(URI).receipts()) == 3


@pytest.mark.parametrize("file", ["corpus.json", "receipts/unit-0001.json", "masks/unit-0001.parquet"])
@pytest.mark.parametrize("read", [lambda uri: Corpus.open(uri).masks(["area"]), verify_corpus])
def test_what_lasts_is_an_outage(fails, file, read):
    fails(file)
    with pytest.raises(OutageError, match="SlowDown") as told:
        read(URI)
    assert file in str(told.value) and "delete" not in str(told.value)


def test_a_status_is_an_outage_too(fails):
    fails("receipts/unit-0001.json")
    with pytest.raises(OutageError, match="SlowDown"):
        corpus_status(URI)


def test_a_damaged_file_in_a_store_is_no_outage(fails):
    fsspec.filesystem("memory").pipe_file("/bucket/corpus/masks/unit-0001.parquet", b"PAR1 and no more")
    with pytest.raises(InputError, match=r"masks/unit-0001\.parquet.*it is broken"):
        Corpus.open(URI).masks(["area"])
