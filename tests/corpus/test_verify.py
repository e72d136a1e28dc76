"""Verifying: a whole corpus passes, and each tampering is caught in the right file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.made_corpus import (
    DIM,
    MadeCorpus,
    blob,
    commit,
    make_corpus,
    masks_table,
    parquet,
    plan_row,
    read,
    receipt_of,
    write,
)
from pycocotools import mask as coco

from fastsam_batch.corpus.plan import write_plan
from fastsam_batch.corpus.verify import Problem, verify_corpus
from fastsam_batch.errors import InputError

UNIT = "unit-0001"
MASKS, IMAGES, RECEIPT = f"masks/{UNIT}.parquet", f"images/{UNIT}.parquet", f"receipts/{UNIT}.json"
Rows = list[dict[str, Any]]


def test_a_whole_corpus_passes(made: MadeCorpus) -> None:
    report = verify_corpus(made.uri)
    assert (report.problems, report.notes, report.ok) == ([], [], True)
    assert (report.units, report.images, report.masks) == (3, 7, len(made.masks))


@pytest.mark.parametrize("dim", [DIM, None])
def test_a_corpus_in_another_filesystem_passes(tmp_path: Path, dim: int | None) -> None:
    made = make_corpus(f"memory://verify-{dim}/corpus", tmp_path, dim=dim)
    assert verify_corpus(made.uri).problems == []


def test_what_is_not_finished_is_noted(made: MadeCorpus) -> None:
    Path(made.uri, RECEIPT).unlink()
    report = verify_corpus(made.uri)
    assert report.ok
    assert [note.file for note in report.notes] == ["plan", MASKS, IMAGES]
    assert report.notes[0].problem == "units and shards that are not finished: 1; run the same job again"


def test_no_corpus_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a corpus"):
        verify_corpus(str(tmp_path))


def edit_json(made: MadeCorpus, path: str, **changes: Any) -> None:
    content = json.loads(read(made.uri, path)) | changes
    write(
        made.uri,
        path,
        json.dumps({key: value for key, value in content.items() if value is not ...}).encode(),
    )


def replace(made: MadeCorpus, kind: str, data: bytes) -> None:
    """Another file with a receipt that agrees, so that only its content can be caught."""
    receipt = receipt_of(made.uri, UNIT)
    path = f"{kind}/{UNIT}.parquet"
    write(made.uri, path, data)
    receipt["files"][kind] = {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write(made.uri, RECEIPT, json.dumps(receipt).encode())


def edit_table(made: MadeCorpus, kind: str, edit: Callable[[pa.Table], pa.Table], footer: bool = True) -> None:
    table = pq.read_table(pa.BufferReader(read(made.uri, f"{kind}/{UNIT}.parquet"))).replace_schema_metadata()
    replace(made, kind, parquet(edit(table), footer))


def edit_rows(made: MadeCorpus, kind: str, edit: Callable[[Rows], object]) -> None:
    def edited(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        edit(rows)
        return pa.Table.from_pylist(rows, schema=table.schema)

    edit_table(made, kind, edited)


def setting(kind: str, row: int, **values: Any) -> Callable[[MadeCorpus], None]:
    """A tampering that puts values into one row."""
    return lambda made: edit_rows(made, kind, lambda rows: rows[row].update(values))


def widened(table: pa.Table) -> pa.Table:
    return table.set_column(3, "area", table["area"].cast(pa.int64()))


def nullable(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))


def other_mask(made: MadeCorpus) -> dict[str, Any]:
    """A valid encoding of quite another mask of the same size."""
    height, width = made.masks[12]["rle"]["size"]
    rle = coco.encode(np.asfortranarray(blob(height, width, np.random.default_rng(99))))
    return {"size": [height, width], "counts": rle["counts"].decode()}


def cut_counts(made: MadeCorpus) -> None:
    rle = made.masks[12]["rle"]
    setting("masks", 0, rle={"size": rle["size"], "counts": rle["counts"][:-5]})(made)


TAMPERINGS: list[tuple[str, Callable[[MadeCorpus], object], str, str]] = [
    (
        "corpus.json breaks its schema",
        lambda m: edit_json(m, "corpus.json", colour="red"),
        "corpus.json",
        "'colour' was unexpected",
    ),
    ("receipt is no JSON", lambda m: write(m.uri, RECEIPT, b"{"), RECEIPT, "cannot be read as JSON"),
    (
        "receipt breaks its schema",
        lambda m: edit_json(m, RECEIPT, images=-1),
        RECEIPT,
        "$.images: -1 is less than",
    ),
    ("receipt lacks a key", lambda m: edit_json(m, RECEIPT, files=...), RECEIPT, "'files' is a required"),
    (
        "receipt of another unit",
        lambda m: edit_json(m, RECEIPT, unit_id="unit-0007"),
        RECEIPT,
        "names unit unit-0007",
    ),
    ("fingerprint", lambda m: edit_json(m, RECEIPT, fingerprint="0" * 64), RECEIPT, "another fingerprint"),
    ("images count", lambda m: edit_json(m, RECEIPT, images=3), RECEIPT, "says images: 3, the files hold 2"),
    ("masks count", lambda m: edit_json(m, RECEIPT, masks=11), RECEIPT, "says masks: 11, the files hold 12"),
    ("failed count", lambda m: edit_json(m, RECEIPT, failed=1), RECEIPT, "says failed: 1, the files hold 0"),
    (
        "failures",
        lambda m: edit_json(m, RECEIPT, failures={"bomb": 1}),
        RECEIPT,
        "says failures: {'bomb': 1}",
    ),
    ("masks missing", lambda m: Path(m.uri, MASKS).unlink(), MASKS, "is missing"),
    ("images missing", lambda m: Path(m.uri, IMAGES).unlink(), IMAGES, "is missing"),
    ("cut short", lambda m: write(m.uri, MASKS, read(m.uri, MASKS)[:-9]), MASKS, "bytes, its receipt says"),
    ("one bit", lambda m: write(m.uri, MASKS, flipped(read(m.uri, MASKS))), MASKS, "another SHA-256"),
    ("no Parquet", lambda m: replace(m, "images", b"PAR1 and no more"), IMAGES, "is no readable Parquet"),
    (
        "no footer mark",
        lambda m: edit_table(m, "masks", lambda t: t, footer=False),
        MASKS,
        "no fastsam_batch entry",
    ),
    (
        "a column's type",
        lambda m: edit_table(m, "masks", widened),
        MASKS,
        "has column pyarrow.Field<area: int64",
    ),
    ("nullable columns", lambda m: edit_table(m, "images", nullable), IMAGES, "the contract says"),
    (
        "a column less",
        lambda m: edit_table(m, "masks", lambda t: t.drop(["rle"])),
        MASKS,
        "has no column rle",
    ),
    (
        "a column more",
        lambda m: edit_table(m, "images", extra),
        IMAGES,
        "column extra that the contract has not",
    ),
    (
        "columns' order",
        lambda m: edit_table(m, "images", backwards),
        IMAGES,
        "columns in the order error_message",
    ),
    (
        "a mask lost",
        lambda m: edit_rows(m, "masks", lambda rows: rows.pop(5)),
        MASKS,
        "another number of masks",
    ),
    (
        "a mask twice",
        lambda m: edit_rows(m, "masks", lambda rows: rows.append(rows[3])),
        MASKS,
        "does not count from",
    ),
    ("scores disordered", setting("masks", 1, score=0.95), MASKS, "not by descending score"),
    (
        "a stranger's mask",
        setting("masks", 5, image_id="chelsea.png"),
        MASKS,
        "belong to no image of this unit",
    ),
    ("score too large", setting("masks", 0, score=1.5), MASKS, "masks that have a score outside [0, 1]: 1"),
    (
        "stability not a number",
        setting("masks", 2, stability=float("nan")),
        MASKS,
        "a stability outside [0, 1]",
    ),
    (
        "area",
        setting("masks", 2, area=77),
        MASKS,
        "another area than their rle: 1, the first is coffee.png#2",
    ),
    ("box", setting("masks", 3, bbox=[1, 2, 3, 4]), MASKS, "not the tight box of their rle"),
    (
        "another mask",
        lambda m: setting("masks", 0, rle=other_mask(m))(m),
        MASKS,
        "another area than their rle",
    ),
    ("rle too short", cut_counts, MASKS, "rle that is not one, or not of its size"),
    (
        "rle no text",
        setting("masks", 0, rle={"size": [5, 5], "counts": "é~\x01"}),
        MASKS,
        "rle that is not one",
    ),
    ("rle size", setting("masks", 0, rle={"size": [0, 5], "counts": "1"}), MASKS, "rle of no size"),
    (
        "rle of a small image",
        setting("masks", 0, rle={"size": [2, 2], "counts": "121"}),
        MASKS,
        "another size than",
    ),
    (
        "an empty mask",
        setting("masks", 0, rle={"size": [2, 2], "counts": "4"}),
        MASKS,
        "masks that are empty: 1",
    ),
    ("long vector", setting("masks", 0, embedding=[0.5] * DIM), MASKS, "embedding of another length than 1"),
    ("infinite vector", setting("masks", 0, embedding=[float("inf")] * DIM), MASKS, "that is not finite"),
    ("null in a vector", setting("masks", 0, embedding=[None] * DIM), MASKS, "that is not finite"),
    ("image of another unit", setting("images", 0, unit_id="unit-0000"), IMAGES, "another unit_id"),
    (
        "image twice in its unit",
        setting("images", 1, image_id="coffee.png"),
        IMAGES,
        "are listed more than once",
    ),
    (
        "image of two units",
        setting("images", 1, image_id="chelsea.png"),
        IMAGES,
        "is also in images/unit-0000.parquet",
    ),
    ("status", setting("images", 0, status="fine"), IMAGES, "a status other than"),
    ("n_masks", setting("images", 0, n_masks=7), MASKS, "coffee.png (6 instead of 7)"),
    ("negative n_masks", setting("images", 0, n_masks=-6), IMAGES, "a negative n_masks"),
    ("sha256", setting("images", 0, sha256="xyz"), IMAGES, "a sha256 that is not one"),
    ("no sha256", setting("images", 0, sha256=None), IMAGES, "are ok but have no sha256"),
    ("ok with an error", setting("images", 0, error_kind="bomb"), IMAGES, "are ok but have an error"),
    ("ok without a size", setting("images", 0, width=None), IMAGES, "are ok but have no width"),
    ("failed without a kind", setting("images", 0, status="failed"), IMAGES, "failed without an error_kind"),
    ("failed with a size", setting("images", 0, status="failed"), IMAGES, "failed but have a width or height"),
    (
        "a file of another corpus",
        lambda m: replace(m, "masks", parquet(pq.read_table(Path(m.uri, MASKS)), fingerprint="0" * 64)),
        MASKS,
        "another fingerprint in its footer",
    ),
    ("failed with masks", setting("images", 0, status="failed"), IMAGES, "failed but have masks"),
]


def flipped(data: bytes) -> bytes:
    return data[:50] + bytes([data[50] ^ 1]) + data[51:]


def extra(table: pa.Table) -> pa.Table:
    return table.append_column("extra", table["uri"])


def backwards(table: pa.Table) -> pa.Table:
    return table.select(table.column_names[::-1])


@pytest.mark.parametrize(("tamper", "file", "problem"), [pytest.param(*rest, id=name) for name, *rest in TAMPERINGS])
def test_tampering_is_caught(made: MadeCorpus, tamper: Callable, file: str, problem: str) -> None:
    tamper(made)
    report = verify_corpus(made.uri)
    assert not report.ok
    assert any(found.file == file and problem in found.problem for found in report.problems), report.problems
    untouched = [found.file for found in report.problems if "unit-0000" in found.file or "unit-0002" in found.file]
    assert untouched == []
    assert all("\n" not in found.problem for found in report.problems)


def test_every_broken_unit_is_named(made: MadeCorpus) -> None:
    for unit in ("unit-0000", "unit-0002"):
        Path(made.uri, f"masks/{unit}.parquet").unlink()
    assert verify_corpus(made.uri).problems == [
        Problem("masks/unit-0000.parquet", "is missing"),
        Problem("masks/unit-0002.parquet", "is missing"),
    ]


def test_an_embedding_without_an_embedder(tmp_path: Path) -> None:
    made = make_corpus(str(tmp_path / "corpus"), tmp_path, dim=None)
    rows = [row | {"embedding": [1.0]} for row in made.masks if row["image_id"] in ("coffee.png", "rocket.png")]
    images = read(made.uri, IMAGES)
    receipt = receipt_of(made.uri, UNIT)
    commit(made.uri, UNIT, images, parquet(masks_table(rows, None)))
    files = receipt_of(made.uri, UNIT)["files"]
    write(made.uri, RECEIPT, json.dumps(receipt | {"files": files}).encode())
    problem = "masks that have an embedding in a corpus without an embedder: 12, the first is coffee.png#0"
    assert verify_corpus(made.uri).problems == [Problem(MASKS, problem)]


def test_a_plan_that_lost_a_file_is_told(made: MadeCorpus) -> None:
    plan = Path(made.uri) / "plan" / "0001.parquet"
    whole = plan.read_bytes()
    write_plan(made.uri, 2, [plan_row("unit-0001", ["coffee.png"])])
    plan.unlink()
    named = [problem.file for problem in verify_corpus(made.uri).problems]
    assert named == ["receipts/unit-0000.json", "receipts/unit-0002.json"]
    plan.write_bytes(whole[:100])
    (problem,) = verify_corpus(made.uri).problems
    assert problem.file == "plan" and "plan/0001.parquet: damaged" in problem.problem
    shutil.rmtree(plan.parent)
    report = verify_corpus(made.uri)
    assert report.ok and [note.file for note in report.notes] == ["plan"]
