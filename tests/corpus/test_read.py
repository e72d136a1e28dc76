"""Reading: only what receipts name, filters, streaming, and what is said about broken corpora."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from corpus.made_corpus import DIM, MadeCorpus, commit, make_corpus, masks_table, parquet, read, write

from fastsam_batch import Corpus
from fastsam_batch.config import segment_options
from fastsam_batch.corpus.schema import images_schema, masks_schema
from fastsam_batch.corpus.status import corpus_status
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.errors import InputError
from fastsam_batch.export.run import Export, export_labels
from fastsam_batch.search.find import find_masks
from fastsam_batch.search.write import write_hits


def test_all_rows_come_back_in_order(made: MadeCorpus) -> None:
    corpus = Corpus.open(made.uri)
    assert corpus.embedding_dim == DIM
    assert corpus.info["options"] == {"conf": 0.4}
    assert list(corpus.receipts()) == ["unit-0000", "unit-0001", "unit-0002"]
    assert corpus.masks().schema.equals(masks_schema(DIM))
    assert corpus.images().schema.equals(images_schema())
    assert corpus.masks().equals(masks_table(made.masks, DIM))
    assert corpus.images().to_pylist() == pa.Table.from_pylist(made.images, images_schema()).to_pylist()


def test_a_path_does_as_well_as_a_text(made_once: MadeCorpus, tmp_path: Path) -> None:
    corpus = Corpus.open(Path(made_once.uri))
    assert corpus.masks(["area"]).equals(Corpus.open(made_once.uri).masks(["area"]))
    assert repr(corpus) == f"Corpus({made_once.uri!r})"
    assert verify_corpus(Path(made_once.uri)).masks == corpus_status(Path(made_once.uri)).masks == len(made_once.masks)
    export_labels(corpus, Export("cvat", tmp_path / "labels.XML"))
    write_hits(tmp_path / "hits.jsonl", find_masks(corpus, like=[("coffee.png", 3)]))
    assert {path.name for path in tmp_path.iterdir()} == {"labels.XML", "hits.jsonl"}
    assert segment_options({"input": tmp_path, "output": tmp_path / "out"}).output == str(tmp_path / "out")


def test_an_unknown_column_is_told_with_all_that_work(made_once: MadeCorpus) -> None:
    corpus = Corpus.open(made_once.uri)
    for rows, known in ((corpus.masks, corpus.filter_columns()), (corpus.images, images_schema().names)):
        with pytest.raises(InputError, match="there is no column nosuch") as told:
            rows(where="nosuch = 1")
        assert {*str(told.value).rpartition("columns are ")[2].split(", ")} >= {*known}


def test_a_corpus_in_another_filesystem(tmp_path: Path) -> None:
    made = make_corpus("memory://other/corpus", tmp_path)
    corpus = Corpus.open(made.uri)
    assert corpus.masks().equals(masks_table(made.masks, DIM))
    assert corpus.images(columns=["image_id"], where="status = 'failed'").to_pylist() == [{"image_id": "broken.png"}]


@pytest.mark.parametrize(
    ("where", "keeps"),
    [
        ("area > 2000", lambda row: row["area"] > 2000),
        ("bbox.width >= 60 and score < 0.75", lambda row: row["bbox"][2] >= 60 and row["score"] < 0.75),
        ("embedding is null", lambda row: row["embedding"] is None),
        (
            "image_id like '%cof%' or mask_index = 0",
            lambda row: "cof" in row["image_id"] or row["mask_index"] == 0,
        ),
        ("unit_id = 'unit-0001'", lambda row: row["image_id"] in ("coffee.png", "rocket.png")),
        ("unit_id in ('unit-0002', 'no')", lambda row: row["image_id"] == "coins.png"),
        (pc.field("area") < 100, lambda row: row["area"] < 100),
        ("area < 0", lambda row: False),
    ],
)
def test_filters(made: MadeCorpus, where: str | pc.Expression, keeps) -> None:
    kept = [row for row in masks_table(made.masks, DIM).to_pylist() if keeps(row)]
    assert Corpus.open(made.uri).masks(where=where).to_pylist() == kept


def test_columns(made: MadeCorpus) -> None:
    masks = Corpus.open(made.uri).masks(columns=["unit_id", "area"], where="mask_index = 1")
    assert masks.column_names == ["unit_id", "area"]
    assert set(masks["unit_id"].to_pylist()) == {"unit-0000", "unit-0001", "unit-0002"}


@pytest.mark.parametrize("batch_rows", [1, 4, 1000])
def test_batches_are_the_table_in_pieces(made: MadeCorpus, batch_rows: int) -> None:
    corpus = Corpus.open(made.uri)
    batches = list(corpus.mask_batches(where="score > 0.45", batch_rows=batch_rows))
    assert max(len(batch) for batch in batches) <= batch_rows
    assert pa.Table.from_batches(batches).equals(corpus.masks(where="score > 0.45"))
    images = list(corpus.image_batches(["image_id", "n_masks"], batch_rows=batch_rows))
    assert max(len(batch) for batch in images) <= batch_rows
    assert pa.Table.from_batches(images).equals(corpus.images(["image_id", "n_masks"]))


def test_a_filter_on_units_opens_only_their_files(made: MadeCorpus) -> None:
    write(made.uri, "masks/unit-0000.parquet", b"broken")
    masks = Corpus.open(made.uri).masks(where="unit_id = 'unit-0001' and area > 0")
    assert len(masks) == 12


def test_image(made: MadeCorpus) -> None:
    image = Corpus.open(made.uri).image("coffee.png")
    row, masks = image.row, image.masks
    assert (row["unit_id"], row["n_masks"], row["status"]) == ("unit-0001", 6, "ok")
    assert masks["mask_index"].to_pylist() == list(range(6))
    assert set(masks["image_id"].to_pylist()) == {"coffee.png"}
    assert np.allclose(masks["bbox"][2].as_py(), made.masks[14]["bbox"])
    assert Corpus.open(made.uri).image("broken.png").masks.num_rows == 0
    with pytest.raises(InputError, match=r"holds no image 'nothing\.png'"):
        Corpus.open(made.uri).image("nothing.png")


def test_files_without_a_receipt_are_invisible(made: MadeCorpus) -> None:
    rows = parquet(masks_table(made.masks, DIM))
    commit(made.uri, "unit-0009", rows, rows)
    (Path(made.uri) / "receipts/unit-0009.json").unlink()
    write(made.uri, "receipts/.unit-0009.json.tmp", b"half writ")
    corpus = Corpus.open(made.uri)
    assert len(corpus.masks()) == len(made.masks)
    assert list(corpus.receipts()) == ["unit-0000", "unit-0001", "unit-0002"]


@pytest.mark.parametrize("dim", [DIM, None])
def test_a_corpus_without_units(tmp_path: Path, dim: int | None) -> None:
    from corpus.made_corpus import corpus_info

    write(str(tmp_path), "corpus.json", json.dumps(corpus_info(dim)).encode())
    corpus = Corpus.open(str(tmp_path))
    assert corpus.masks().schema.equals(masks_schema(dim))
    assert (len(corpus.masks()), len(corpus.images()), corpus.receipts()) == (0, 0, {})


def test_a_corpus_without_embeddings(tmp_path: Path) -> None:
    made = make_corpus(str(tmp_path / "corpus"), tmp_path, dim=None)
    masks = Corpus.open(made.uri).masks()
    assert masks["embedding"].null_count == len(masks) == len(made.masks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a corpus: it holds no corpus.json"),
        (b"{", r"corpus\.json: damaged \(Expecting"),
        (b"[]", r"corpus\.json: damaged \(not a JSON object\)"),
        (b'{"schema_version": 1, "options": {}}', r"damaged \(without created_by, .*, models, embedding_dim\)"),
        (b'{"schema_version": 2}', "has schema version 2 and this fastsam-batch knows 1"),
    ],
)
def test_what_is_no_corpus_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "corpus.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        Corpus.open(str(tmp_path))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("options", None, r"damaged \(\$\.options: None is not of type 'object'\)"),
        ("models", {}, r"damaged \(\$\.models: 'segmenter' is a required property\)"),
        ("input", None, r"damaged \(\$\.input: None is not of type 'string'\)"),
        ("schema_version", "one", r"damaged \(\$\.schema_version: 1 was expected\)"),
    ],
)
def test_a_field_of_another_type_is_refused(made: MadeCorpus, field: str, value: Any, message: str) -> None:
    document = json.loads(read(made.uri, "corpus.json"))
    write(made.uri, "corpus.json", json.dumps({**document, field: value}).encode())
    with pytest.raises(InputError, match=message):
        Corpus.open(made.uri)


def test_a_field_of_a_later_version_is_let_pass(made: MadeCorpus) -> None:
    document = json.loads(read(made.uri, "corpus.json"))
    write(made.uri, "corpus.json", json.dumps({**document, "colour": "red"}).encode())
    assert Corpus.open(made.uri).count("masks") == len(made.masks)


def cut(made: MadeCorpus, path: str, share: float) -> None:
    data = read(made.uri, path)
    write(made.uri, path, data[: int(len(data) * share)])


def flip(made: MadeCorpus, path: str) -> None:
    # The pages lie before the footer: zeros there leave the metadata whole and break the data.
    data = read(made.uri, path)
    write(made.uri, path, data[:200] + bytes(len(data) // 2) + data[200 + len(data) // 2 :])


@pytest.mark.parametrize(
    ("tamper", "file", "reason"),
    [
        (
            lambda made: (Path(made.uri) / "masks/unit-0001.parquet").unlink(),
            "masks/unit-0001.parquet",
            "is missing",
        ),
        (lambda made: cut(made, "masks/unit-0002.parquet", 0.5), "masks/unit-0002.parquet", "is broken"),
        (lambda made: cut(made, "masks/unit-0000.parquet", 0), "masks/unit-0000.parquet", "is broken"),
        (lambda made: flip(made, "masks/unit-0001.parquet"), "masks/unit-0001.parquet", "is broken"),
        (
            lambda made: write(made.uri, "receipts/unit-0001.json", b"{"),
            "receipts/unit-0001.json",
            "is broken",
        ),
        (
            lambda made: write(made.uri, "receipts/unit-0001.json", b'{"unit_id": "unit-0001"}'),
            "receipts/unit-0001.json",
            r"is broken \(without schema_version, shard, ",
        ),
        (
            lambda made: write(made.uri, "receipts/unit-0001.json", b"[]"),
            "receipts/unit-0001.json",
            "is broken",
        ),
    ],
)
def test_broken_files_are_named(made: MadeCorpus, tamper, file: str, reason: str) -> None:
    tamper(made)
    with pytest.raises(InputError, match=reason) as caught:
        Corpus.open(made.uri).masks()
    assert file in str(caught.value)
    assert "verify" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": ["area", "nothing"]}, "masks have no column nothing; the columns are image_id"),
        ({"where": "nothing = 1"}, "there is no column nothing"),
    ],
)
def test_wrong_questions(made: MadeCorpus, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Corpus.open(made.uri).masks(**arguments)


def test_a_callers_wrong_expression_is_not_blamed_on_a_file(made: MadeCorpus) -> None:
    with pytest.raises(pa.ArrowException):
        Corpus.open(made.uri).masks(where=pc.field("rle") > 3)


def test_filters_and_sizes_that_do_not_fit(made_once: MadeCorpus) -> None:
    corpus = Corpus.open(made_once.uri)
    with pytest.raises(InputError, match=r"the filter \(width > 5\) does not fit .*; the columns are image_id, "):
        corpus.masks(["area"], where=pc.field("width") > 5)
    with pytest.raises(InputError, match=r"batch_rows 0: give 1 or more"):
        corpus.mask_batches(batch_rows=0)
