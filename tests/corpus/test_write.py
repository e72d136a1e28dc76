"""A committed unit as other programs read it, against the contract in schemas/."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import duckdb
import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastsam_batch.corpus.info import admit, describe, read_info, write_info
from fastsam_batch.corpus.products import Products
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.rows import ImageResult, MaskColumns, UnitResult, images_table, masks_table
from fastsam_batch.corpus.schema import contract, images_schema, masks_schema
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.corpus.write import commit_unit
from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle

DIM = 8
MODELS = {
    "segmenter": {"name": "builtin", "sha256": {"s": "0" * 64}, "licence": "AGPL-3.0"},
    "embedder": {
        "name": "builtin",
        "sha256": {"e": "1" * 64},
        "licence": "AGPL-3.0",
        "text_encoder": "builtin",
    },
}


def masks(n, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, DIM)).astype(np.float32)
    return MaskColumns(
        scores=np.linspace(0.9, 0.2, n, dtype=np.float32),
        stability=np.full(n, 0.8, np.float32),
        areas=np.full(n, 6, np.int64),
        bboxes_xywh=np.tile(np.array([[1, 0, 2, 3]], np.float32), (n, 1)),
        rles=[Rle((3, 4), "36")] * n,  # 3 background, 6 foreground
        embeddings=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        embedded=np.arange(n) % 3 != 2,
    )


def unit():
    results = [
        ImageResult("a.jpg", "/x/a.jpg", "f" * 64, (3, 4), masks(5)),
        ImageResult("b.jpg", "/x/b.jpg", "e" * 64, error_kind="truncated", error_message="ends early"),
        ImageResult("c.jpg", "/x/c.jpg", "d" * 64, (3, 4), masks(0)),
    ]
    return UnitResult("files-000000000", "", False, images_table(results, "files-000000000"), masks_table(results, DIM))


@pytest.fixture
def corpus(tmp_path):
    info = describe("/x", {"conf": 0.4}, MODELS, DIM)
    assert admit(str(tmp_path), info) is None
    write_info(str(tmp_path), info)
    return tmp_path, info, commit_unit(str(tmp_path), info, unit())


def test_an_input_is_a_place_and_not_how_it_is_written(tmp_path, monkeypatch):
    def described(uri):
        return describe(uri, {}, MODELS, DIM)

    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    relative = described("photos")
    for name, made in {"now": relative, "before": replace(relative, input="photos")}.items():
        write_info(str(tmp_path / name), made)
        assert admit(str(tmp_path / name), described(f"{tmp_path}/photos/")) == made
    write_info(str(tmp_path / "s3"), described("s3://b/p"))
    assert admit(str(tmp_path / "s3"), described("s3://b/p/"))
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(InputError, match="--input was"):
        admit(str(tmp_path / "now"), described("photos"))


def test_receipt_and_corpus_file_keep_the_contract(corpus):
    root, info, receipt = corpus
    written = json.loads((root / "receipts" / "files-000000000.json").read_text())
    assert written == receipt
    jsonschema.validate(written, contract("receipt"))
    jsonschema.validate(json.loads((root / "corpus.json").read_text()), contract("corpus"))
    assert (receipt["images"], receipt["failed"], receipt["masks"]) == (3, 1, 5)
    assert receipt["failures"] == {"truncated": 1}
    assert receipt["fingerprint"] == info.fingerprint
    for file in receipt["files"].values():
        data = (root / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])


def test_plain_pyarrow_reads_the_contract_s_types(corpus):
    root, *_ = corpus
    table = pq.read_table(root / "masks" / "files-000000000.parquet")
    assert table.schema.field("embedding").type == pa.list_(pa.float16(), DIM)
    assert table.schema.field("bbox").type == pa.list_(pa.float32(), 4)
    assert table.schema.field("rle").type.field("size").type == pa.list_(pa.int32(), 2)
    assert table.schema.equals(masks_schema(DIM))
    assert pq.read_table(root / "images" / "files-000000000.parquet").schema.equals(images_schema())
    rows = table.to_pylist()
    jsonschema.validate(json.loads(json.dumps(rows, default=float)), {"type": "array", "items": contract("masks")})
    assert [row["embedding"] is None for row in rows] == [False, False, True, False, False]
    footer = json.loads(table.schema.metadata[b"fastsam_batch"])
    assert footer["schema"] == "masks.v1"
    assert footer["models"]["segmenter"]["licence"] == "AGPL-3.0"


def test_pandas_and_duckdb_read_it(corpus):
    root, *_ = corpus
    frame = pd.read_parquet(root / "masks" / "files-000000000.parquet")
    assert frame["area"].tolist() == [6] * 5
    assert abs(np.linalg.norm(frame["embedding"][0].astype(np.float32)) - 1) < 1e-2
    query = f"""select i.image_id, count(m.mask_index) from '{root}/images/*.parquet' i
                left join '{root}/masks/*.parquet' m using (image_id) where status = 'ok' group by 1 order by 1"""
    assert duckdb.sql(query).fetchall() == [("a.jpg", 5), ("c.jpg", 0)]
    assert duckdb.sql(f"select rle.counts, bbox[3] from '{root}/masks/*.parquet' limit 1").fetchall() == [("36", 2.0)]


def test_committing_again_replaces_equal_files(corpus):
    root, info, receipt = corpus
    again = commit_unit(str(root), info, unit())
    assert again["files"] == receipt["files"]
    assert sorted(p.name for p in root.rglob("*") if p.is_file()) == [
        "corpus.json",
        "files-000000000.json",
        "files-000000000.parquet",
        "files-000000000.parquet",
    ]


def test_a_corpus_without_embedder_has_null_embeddings():
    results = [ImageResult("a.jpg", "a", "f" * 64, (3, 4), masks(2))]
    columns = MaskColumns(**{**masks(2).__dict__, "embedded": np.zeros(2, bool)})
    table = masks_table([ImageResult("a.jpg", "a", "f" * 64, (3, 4), columns)], None)
    assert table["embedding"].null_count == 2
    assert masks_table(results, DIM)["embedding"].null_count == 0


def test_a_unit_of_more_run_lengths_than_an_array_holds(tmp_path):
    results = [
        ImageResult(f"{name}.jpg", f"/x/{name}.jpg", "f" * 64, (3, 4), replace(masks(n), rles=[Rle((3, 4), "363")] * n))
        for name, n in (("a", 5), ("b", 4))
    ]
    whole, parted = masks_table(results, DIM), masks_table(results, DIM, part_bytes=7)  # two masks of 3 bytes a part
    assert [len(chunk) for chunk in parted["rle"].chunks] == [2, 2, 2, 2, 1]
    assert [len(chunk) for chunk in masks_table(results, DIM, part_bytes=1)["rle"].chunks] == [1] * 9
    images = images_table(results, "files-000000000")
    info = describe("/x", {"conf": 0.4}, MODELS, DIM)
    write_info(str(tmp_path), info)
    commit_unit(str(tmp_path), info, UnitResult("files-000000000", "", False, images, parted))
    assert pq.ParquetFile(tmp_path / "masks" / "files-000000000.parquet").num_row_groups == 5
    stored = Corpus.open(str(tmp_path))
    assert stored.masks(masks_schema(DIM).names).equals(whole)
    products = Products(np.eye(1, DIM, dtype=np.float32))
    assert sum(len(block) for block in stored.vector_blocks("files-000000000", products)) == 7
    assert verify_corpus(str(tmp_path)).problems == []


def test_the_same_description_may_go_on(corpus):
    root, info, _ = corpus
    assert admit(str(root), describe("/x", {"conf": 0.4}, MODELS, DIM)) == info == read_info(str(root))


@pytest.mark.parametrize(
    ("input_uri", "options", "digest", "message"),
    [
        ("/y", {"conf": 0.4}, "0", r"--input was /x, is /y"),
        ("/x", {"conf": 0.5}, "0", r"--conf was 0.4, is 0.5"),
        ("/x", {"conf": 0.4}, "2", r"the segmenter was builtin \(s 0+\), is builtin \(s 2+\)"),
    ],
)
def test_another_fingerprint_is_refused_with_the_difference(corpus, input_uri, options, digest, message):
    root, *_ = corpus
    models = {**MODELS, "segmenter": {**MODELS["segmenter"], "sha256": {"s": digest * 64}}}
    with pytest.raises(InputError, match=message):
        admit(str(root), describe(input_uri, options, models, DIM))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema_version": 1}'])
def test_a_damaged_corpus_file_is_named(tmp_path, content):
    (tmp_path / "corpus.json").write_text(content)
    with pytest.raises(InputError, match=r"corpus\.json: damaged"):
        read_info(str(tmp_path))


def test_a_newer_corpus_is_refused(tmp_path):
    (tmp_path / "corpus.json").write_text('{"schema_version": 2}')
    with pytest.raises(InputError, match="has schema version 2 and this fastsam-batch knows 1"):
        read_info(str(tmp_path))


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert read_info(str(tmp_path / "file" / "corpus")) is None
    with pytest.raises(InputError, match="file/corpus: cannot be written"):
        write_info(str(tmp_path / "file" / "corpus"), describe("/x", {}, MODELS, DIM))


def test_credentials_in_the_input_are_not_stored():
    assert describe("s3://key:secret@bucket/x", {}, MODELS, DIM).input == "s3://bucket/x"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://", "^cannot read s3:///corpus.json: "),
        ("s3://a bucket/x", '^cannot read s3://a bucket/x/corpus.json: Invalid bucket name "a bucket"'),
        ("s3://key:secret@bucket/x", "^cannot open s3://bucket/x: S3's keys belong in the environment"),
    ],
)
def test_an_address_that_no_store_takes_is_a_sentence_without_its_keys(uri, message):
    with pytest.raises(InputError, match=message) as told:
        read_info(uri)
    assert "secret" not in str(told.value)
