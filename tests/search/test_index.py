"""The index: what it finds, when it is used, and how it is kept up to date."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from botocore.exceptions import BotoCoreError
from corpus.made_corpus import FINGERPRINT, MadeCorpus, corpus_info, image_row, write, write_unit
from servers import s3_server

from fastsam_batch import Corpus
from fastsam_batch.cli import main
from fastsam_batch.corpus.layout import INDEX_FILE
from fastsam_batch.errors import InputError
from fastsam_batch.search import build
from fastsam_batch.search.best import plain_queries
from fastsam_batch.search.build import build_index, recall
from fastsam_batch.search.find import engine_of, find_masks
from fastsam_batch.search.lance import TABLE, connect, unit_rows
from fastsam_batch.search.scan import scan

WIDTH = 32


def encode(sentences: Sequence[str]) -> np.ndarray:
    return unit([np.random.default_rng(list(sentence.encode())).normal(size=WIDTH) for sentence in sentences])


def unit(vectors: Any) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_crowd(uri: str, folder: Path, number: int, rows: int) -> list[dict[str, Any]]:
    """A unit of two images and many masks around a few directions."""
    random = np.random.default_rng(number)
    images = [image_row(f"unit-{number:04d}", name, folder) for name in ("coffee.png", "rocket.png")]
    for image in images:
        image["image_id"] = f"{number}/{image['image_id']}"
        image["n_masks"] = rows // 2
    centres = random.normal(size=(8, WIDTH))
    vectors = unit(centres[random.integers(0, 8, rows)] + 0.4 * random.normal(size=(rows, WIDTH))).astype(np.float16)
    masks = []
    for index, vector in enumerate(vectors):
        image = images[index % 2]
        size = [image["height"], image["width"]]
        pixels = size[0] * size[1]
        masks.append(
            {
                "image_id": image["image_id"],
                "mask_index": index // 2,
                "bbox": [float(index % 40), 1.0, 20.0, 10.0],
                "area": int(random.integers(1, 1000)),
                "score": float(np.float32(random.random())),
                "stability": 0.5,
                "rle": {"size": size, "counts": whole(pixels)},
                "embedding": None if index == 3 else vector,
            }
        )
    write_unit(uri, f"unit-{number:04d}", images, masks, WIDTH, row_group_size=200)
    return masks


def whole(pixels: int) -> str:
    """The RLE of a mask of every pixel."""
    from fastsam_batch.masks.rle import pack_counts

    return pack_counts(np.array([0, pixels]), np.array([2]))[0]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three units of 400 masks, with an index whose vectors are quantised."""
    folder = tmp_path_factory.mktemp("crowd")
    uri = str(folder / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    for number in range(3):
        write_crowd(uri, folder, number, 400)
    summary = build_index(Corpus.open(uri), encode(["a", "b", "c"]), least_rows=500)
    assert summary["indexed"]
    assert (summary["rows"], summary["new_units"], summary["removed_units"]) == (1197, 3, 0)
    assert summary["recall"] > 0.95
    return uri


FILTERS = [
    None,
    "area < 100",
    "area <= 20 or score > 0.99",
    "not (area between 10 and 900) and bbox.x < 20",
    "image_id like '1/%' and score >= 0.5 and area != 7.5",
    "image_id in ('0/coffee.png', '2/rocket.png') and not score = 0.25",
    "width = 400 and n_masks > 10 and 300 > area and unit_id is not null",
    "uri like '%rocket.png' and area > 5000000000",
    "score > area and bbox.width >= 20",
]


@pytest.mark.parametrize("where", FILTERS)
def test_the_index_finds_what_the_scan_finds(crowd: str, where: str | None) -> None:
    corpus = Corpus.open(crowd)
    options = {"texts": ["cat|cup", "tree"], "top_k": 50, "where": where, "encode": encode}
    exact = find_masks(corpus, engine="scan", **options)
    found = find_masks(corpus, **options)
    assert (engine_of(exact), engine_of(found)) == ("scan", "index")
    assert len(found) == len(exact)
    columns = ["text", "image_id", "mask_index", "similarity"]
    rows = [set(map(tuple, (row.values() for row in each.select(columns).to_pylist()))) for each in (found, exact)]
    assert len(rows[0] & rows[1]) >= 0.95 * len(rows[1])


def test_damaged_embeddings_are_left_out(tmp_path: Path) -> None:
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    masks = write_crowd(uri, tmp_path, 0, 40)
    for index, value in ((5, np.nan), (8, np.inf)):
        masks[index]["embedding"] = np.full(WIDTH, value, np.float16)
    images = Corpus.open(uri).images().to_pylist()
    write_unit(uri, "unit-0000", images, masks, WIDTH)
    corpus = Corpus.open(uri)
    assert build_index(corpus, encode(["a"]))["rows"] == 37
    found, exact = (find_masks(corpus, ["cat"], top_k=40, encode=encode, engine=each) for each in ("index", "scan"))
    assert found.equals(exact) and len(found) == 37


def test_every_row_that_matches_is_found(crowd: str) -> None:
    corpus = Corpus.open(crowd)
    matching = corpus.masks(["image_id"], "area < 40").num_rows
    found = find_masks(corpus, ["cat"], top_k=1000, where="area < 40", encode=encode)
    assert engine_of(found) == "index"
    assert len(found) == matching - corpus.masks(["embedding"], "area < 40")["embedding"].null_count > 20


def test_options_reach_the_index(crowd: str) -> None:
    corpus = Corpus.open(crowd)
    options: dict[str, Any] = {"encode": encode, "contrasts": ["dog"], "per_image": 2, "top_k": 5, "min_score": -0.5}
    options["where"] = "area < 600"  # few enough to be compared one by one
    found = find_masks(corpus, ["cat"], like=[("1/coffee.png", 7)], **options)
    exact = find_masks(corpus, ["cat"], like=[("1/coffee.png", 7)], engine="scan", **options)
    assert engine_of(found) == "index"
    assert found.drop_columns(["rle"]).to_pylist() == exact.drop_columns(["rle"]).to_pylist()


def test_filters_that_the_index_cannot_answer_are_scanned(crowd: str) -> None:
    corpus = Corpus.open(crowd)
    for where in ("image_id like '1/c\\%' or area < 50", "sha256 is not null and area < 50"):
        found = find_masks(corpus, ["cat"], where=where, encode=encode)
        assert engine_of(found) == "scan"
        assert found.equals(find_masks(corpus, ["cat"], where=where, encode=encode, engine="scan"))
        with pytest.raises(InputError, match=r"the index cannot filter by (a pattern|the column sha256)"):
            find_masks(corpus, ["cat"], where=where, encode=encode, engine="index")
    with pytest.raises(InputError, match="--engine index: this search needs the scan"):
        find_masks(corpus, ["cat"], where=pc.field("area") < 50, encode=encode, engine="index")


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


def test_another_store_is_refused() -> None:
    from fastsam_batch.search.lance import connect

    with pytest.raises(InputError, match="an index lives on a local disk"):
        connect("memory://corpus")


def test_recall_counts_shared_hits(crowd: str) -> None:
    exact = scan(Corpus.open(crowd), plain_queries(encode(["x", "y"])), 10)
    assert recall([exact[0][:5], None], exact) == 0.25
    assert recall([list(reversed(hits)) for hits in exact], exact) == 1.0


def make_bucket(fs: Any, name: str) -> None:
    """Make a bucket as soon as the server is up to it, which comes after its port answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return fs.mkdir(name)
        except (OSError, BotoCoreError):  # s3fs passes botocore's own on
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("weed", path=str(Path(sys.executable).parent)) is None, reason="no SeaweedFS here")
def test_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with s3_server(tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        make_bucket(s3fs.S3FileSystem(), "crowds")
        uri = "s3://crowds/corpus"
        write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
        write_crowd(uri, tmp_path, 0, 200)
        assert build_index(Corpus.open(uri), encode(["a"]), least_rows=100)["indexed"]
        write_crowd(uri, tmp_path, 1, 200)
        assert build_index(Corpus.open(uri), encode(["a"]), least_rows=100)["rows"] == 398
        found = find_masks(Corpus.open(uri), ["cat"], where="area < 300", encode=encode)
        assert engine_of(found) == "index"
        assert found.equals(find_masks(Corpus.open(uri), ["cat"], where="area < 300", encode=encode, engine="scan"))
        s3fs.S3FileSystem.clear_instance_cache()


def test_the_command_refuses_a_corpus_without_embeddings(tmp_path: Path) -> None:
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(None)).encode())
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert main(["index", "--corpus", uri]) == 2
    assert "no embeddings" in errors.getvalue()
    assert FINGERPRINT not in errors.getvalue()
