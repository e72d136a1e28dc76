"""How the index is kept up to date, and what is said where it is broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from corpus.made_corpus import MadeCorpus, corpus_info, write
from search.made_crowd import WIDTH, encode, write_crowd

from fastsam_batch import Corpus
from fastsam_batch.corpus.layout import INDEX_FILE
from fastsam_batch.errors import InputError
from fastsam_batch.search import build
from fastsam_batch.search.build import build_index
from fastsam_batch.search.find import engine_of, find_masks
from fastsam_batch.search.lance import TABLE, connect, unit_rows


def test_a_corpus_that_grew_or_changed(tmp_path: Path) -> None:
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    write_crowd(uri, tmp_path, 0, 40)
    write_crowd(uri, tmp_path, 1, 40)
    queries = encode(["a", "b"])
    options = {"texts": ["cat"], "top_k": 200, "encode": encode}
    assert engine_of(find_masks(Corpus.open(uri), **options)) == "scan"
    assert build_index(Corpus.open(uri), queries)["recall"] == 1.0
    assert engine_of(find_masks(Corpus.open(uri), **options)) == "index"

    write_crowd(uri, tmp_path, 2, 60)
    stale = find_masks(Corpus.open(uri), **options)
    assert (engine_of(stale), len(stale)) == ("scan", 137)
    with pytest.raises(InputError, match="build one by index_corpus"):
        find_masks(Corpus.open(uri), engine="index", **options)
    summary = build_index(Corpus.open(uri), queries)
    assert (summary["new_units"], summary["removed_units"], summary["rows"]) == (1, 0, 137)

    (tmp_path / "corpus" / "receipts" / "unit-0000.json").unlink()
    write_crowd(uri, tmp_path, 2, 80)
    summary = build_index(Corpus.open(uri), queries)
    assert (summary["new_units"], summary["removed_units"], summary["rows"]) == (1, 1, 39 + 79)
    found = find_masks(Corpus.open(uri), **options)
    assert engine_of(found) == "index"
    assert found.equals(find_masks(Corpus.open(uri), engine="scan", **options))
    assert build_index(Corpus.open(uri), queries)["new_units"] == 0


def test_a_build_that_was_interrupted_doubles_nothing(tmp_path: Path) -> None:
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    write_crowd(uri, tmp_path, 0, 40)
    build_index(Corpus.open(uri), encode(["a"]))
    before = (tmp_path / "corpus" / INDEX_FILE).read_bytes()
    write_crowd(uri, tmp_path, 1, 40)
    build_index(Corpus.open(uri), encode(["a"]))
    # As if it had been killed before it said what it held.
    (tmp_path / "corpus" / INDEX_FILE).write_bytes(before)
    assert engine_of(find_masks(Corpus.open(uri), ["cat"], encode=encode)) == "scan"
    assert build_index(Corpus.open(uri), encode(["a"]))["rows"] == 78


def test_a_second_build_at_the_same_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, refused = str(tmp_path / "corpus"), []
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    write_crowd(uri, tmp_path, 0, 40)

    def rows_meanwhile(corpus: Corpus, units: list[str]) -> Iterator[pa.RecordBatch]:
        with pytest.raises(InputError, match=r"corpus/index \(process \d+ on .*: wait until it has ended") as error:
            build_index(Corpus.open(uri), encode(["a"]))
        refused.append(error)
        return unit_rows(corpus, units)

    monkeypatch.setattr(build, "unit_rows", rows_meanwhile)
    assert build_index(Corpus.open(uri), encode(["a"]))["rows"] == 39
    assert len(refused) == 1
    assert engine_of(find_masks(Corpus.open(uri), ["cat"], encode=encode)) == "index"


@pytest.mark.parametrize("back", [True, False])
def test_a_build_that_was_interrupted_and_a_corpus_that_changed_then(tmp_path: Path, back: bool) -> None:
    uri, queries = str(tmp_path / "corpus"), encode(["a"])
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    for number in range(3):
        write_crowd(uri, tmp_path, number, 40)
    receipts = {name: tmp_path / "corpus" / "receipts" / f"unit-000{name}.json" for name in range(3)}
    written = {name: path.read_bytes() for name, path in receipts.items()}
    receipts[2].unlink()
    build_index(Corpus.open(uri), queries)
    before = (tmp_path / "corpus" / INDEX_FILE).read_bytes()
    receipts[1].unlink()
    receipts[2].write_bytes(written[2])
    build_index(Corpus.open(uri), queries)
    # As if it had been killed before it said that it removed one unit and added another, which then changed again.
    (tmp_path / "corpus" / INDEX_FILE).write_bytes(before)
    receipts[2].unlink()
    if back:
        receipts[1].write_bytes(written[1])
    write_crowd(uri, tmp_path, 3, 40)
    assert build_index(Corpus.open(uri), queries)["rows"] == 39 * (3 if back else 2)
    options = {"texts": ["cat"], "top_k": 200, "encode": encode}
    found = find_masks(Corpus.open(uri), **options)
    assert engine_of(found) == "index"
    assert found.equals(find_masks(Corpus.open(uri), engine="scan", **options))


def test_a_table_whose_version_was_cleaned_up_is_built_anew(tmp_path: Path) -> None:
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    write_crowd(uri, tmp_path, 0, 40)
    build_index(Corpus.open(uri), encode(["a"]))
    write_crowd(uri, tmp_path, 1, 40)
    table = connect(uri).open_table(TABLE)
    table.delete("area < 500")
    table.optimize(cleanup_older_than=timedelta(0))
    assert build_index(Corpus.open(uri), encode(["a"]))["rows"] == 78


@pytest.mark.parametrize("gone", ["table", "version"])
def test_a_search_scans_where_the_table_is_gone(tmp_path: Path, gone: str) -> None:
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    write_crowd(uri, tmp_path, 0, 40)
    build_index(Corpus.open(uri), encode(["a"]))
    if gone == "table":  # somebody deletes the folder, of which the note goes last
        shutil.rmtree(tmp_path / "corpus" / "index" / f"{TABLE}.lance")
    else:
        table = connect(uri).open_table(TABLE)
        table.delete("area < 500")
        table.optimize(cleanup_older_than=timedelta(0))
    assert engine_of(find_masks(Corpus.open(uri), ["cat"], encode=encode)) == "scan"
    with pytest.raises(InputError, match="build one by index_corpus"):
        find_masks(Corpus.open(uri), ["cat"], encode=encode, engine="index")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_a_table_that_lacks_files_says_what_to_do(tmp_path: Path, damage) -> None:
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    write_crowd(uri, tmp_path, 0, 40)
    build_index(Corpus.open(uri), encode(["a"]))
    for path in (tmp_path / "corpus" / "index" / f"{TABLE}.lance" / "data").iterdir():
        damage(path)
    with pytest.raises(InputError, match=r"corpus/index: files of it are missing or broken; delete that folder"):
        find_masks(Corpus.open(uri), ["cat"], encode=encode)
    assert find_masks(Corpus.open(uri), ["cat"], encode=encode, engine="scan").num_rows
    shutil.rmtree(tmp_path / "corpus" / "index")
    assert build_index(Corpus.open(uri), encode(["a"]))["rows"] == 39  # one has no embedding


def test_a_broken_note_says_what_to_do(tmp_path: Path, made: MadeCorpus) -> None:
    write(made.uri, INDEX_FILE, b"{")
    with pytest.raises(InputError, match="delete the folder index/"):
        find_masks(Corpus.open(made.uri), ["cat"], encode=encode)
