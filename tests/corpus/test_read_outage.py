"""A store that fails while a corpus is read: tried again, and never told as a broken corpus."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path

import fsspec
import pytest
from corpus.made_corpus import make_corpus
from sources.flaky import FlakyFileSystem

from fastsam_batch import Corpus
from fastsam_batch.cli import main
from fastsam_batch.corpus.plan import write_plan
from fastsam_batch.corpus.status import corpus_status
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.evaluate.coco_files import read_results
from fastsam_batch.export.coco_results import read_ground_truth
from fastsam_batch.outage import ATTEMPTS
from fastsam_batch.search.classes import read_classes
from fastsam_batch.search.index import read_index_info
from fastsam_batch.storage import read_range

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


@pytest.mark.parametrize(
    ("file", "read"),
    [
        *((file, lambda uri: Corpus.open(uri).masks(["area"])) for file in ("corpus.json", "receipts/unit-0001.json")),
        *((file, verify_corpus) for file in ("corpus.json", "receipts/unit-0001.json", "masks/unit-0001.parquet")),
    ],
)
def test_what_lasts_is_an_outage(fails, file, read):
    fails(file)
    with pytest.raises(OutageError, match="SlowDown") as told:
        read(URI)
    assert file in str(told.value) and "delete" not in str(told.value)


def test_a_scan_that_a_store_ends_reads_no_file_again_and_blames_no_output(fails, tmp_path, capsys, monkeypatch):
    fails("masks/unit-0001.parquet", 1)  # and works again at once
    with pytest.raises(OutageError, match=r"cannot read the corpus flaky://bucket/corpus: .*SlowDown"):
        Corpus.open(URI).masks(["area"])
    monkeypatch.setattr("fastsam_batch.corpus.read.broken_files", lambda files: pytest.fail("read again"))
    fails("masks/unit-0001.parquet", 1)
    output = tmp_path / "coco.json"
    assert main(["export", "--corpus", URI, "--format", "coco", "--output", str(output)]) == 1
    assert "run the same command again" in capsys.readouterr().err and not output.exists()


def test_an_export_that_is_done_does_not_fail_for_its_note(fails, tmp_path, capsys):
    write_plan("memory://bucket/corpus", 2, [])
    fails("plan/0002.parquet")
    output = tmp_path / "coco.json"
    assert main(["export", "--corpus", URI, "--format", "coco", "--output", str(output)]) == 0
    said = capsys.readouterr()
    assert "note: whether the corpus is whole is not known: " in said.err and "SlowDown" in said.err
    assert output.exists() and '"format": "coco"' in said.out.splitlines()[-1]


def test_a_status_is_an_outage_too(fails):
    fails("receipts/unit-0001.json")
    with pytest.raises(OutageError, match="SlowDown"):
        corpus_status(URI)


@pytest.mark.parametrize("damage", [lambda data: b"PAR1 and no more", lambda data: data[:4] + b"\xff" * 40 + data[44:]])
def test_a_damaged_file_in_a_store_is_no_outage(fails, damage):
    fs, path = fsspec.filesystem("memory"), "/bucket/corpus/masks/unit-0001.parquet"
    fs.pipe_file(path, damage(fs.cat_file(path)))
    with pytest.raises(InputError, match=r"masks/unit-0001\.parquet.*it is broken"):
        Corpus.open(URI).masks(["image_id", "area"])


def test_a_part_of_a_file_is_tried_again_and_cut_is_an_outage(fails):
    fs = fsspec.filesystem("flaky")
    path = "/bucket/corpus/masks/unit-0001.parquet"
    assert read_range(fs, path, 0, 4) == b"PAR1"
    fails("masks/unit-0001.parquet", ATTEMPTS - 1)
    assert read_range(fs, path, 0, 4) == b"PAR1"
    size = fs.size(path)
    assert len(read_range(fs, path, size - 8, 10**9)) == 8  # as a damaged footer may ask for
    FlakyFileSystem.failures[path] = [(None, 100)] * ATTEMPTS
    with pytest.raises(OutageError, match=rf"the store sent 100 of {size} bytes"):
        read_range(fs, path, 0, size)


@pytest.mark.parametrize("times", [1, 100])
def test_an_index_in_a_store_that_fails_is_not_broken(fails, times):
    corpus = Corpus.open(URI)
    fsspec.filesystem("memory").pipe_file("/bucket/corpus/index/index.json", b'{"version": 0}')
    fails("index/index.json", times)
    if times < ATTEMPTS:
        assert read_index_info(corpus) is None
        return
    with pytest.raises(OutageError, match="SlowDown"):
        read_index_info(corpus)


@pytest.mark.parametrize(
    "read", [read_classes, read_results, partial(read_ground_truth, image_ids=[])], ids=["classes", "results", "truth"]
)
def test_what_the_user_names_in_a_store_that_fails(fails, read):
    fsspec.filesystem("memory").pipe_file("/bucket/corpus/named", b"{}")
    fails("named")
    with pytest.raises(OutageError, match="SlowDown"):
        read(f"{URI}/named")
