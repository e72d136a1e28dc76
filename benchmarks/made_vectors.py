"""A corpus of masks that are nothing but an embedding, as large as a benchmark asks for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from fastsam_batch.corpus.info import describe, write_info
from fastsam_batch.corpus.layout import IMAGES_FOLDER, INDEX_FOLDER, MASKS_FOLDER, RECEIPTS_FOLDER
from fastsam_batch.corpus.rows import UnitResult
from fastsam_batch.corpus.schema import images_schema, masks_schema
from fastsam_batch.corpus.write import commit_unit

MASKS_AN_IMAGE = 60
TRUTH_FOLDER = "truth"  # what a benchmark found out about the corpus and keeps beside it


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def uniform(count: int, dim: int, seed: int) -> np.ndarray:
    """Unit vectors float32 [count, dim] of no structure: random ones, their coordinates shuffled and flipped."""
    random = np.random.default_rng(seed)
    signs = random.choice(np.array([-1, 1], np.float32), dim)
    return (drawn(count, dim) * signs)[:, random.permutation(dim)]


@cache
def drawn(count: int, dim: int) -> np.ndarray:
    return unit(np.random.default_rng(0).standard_normal((count, dim), np.float32))


def write_corpus(
    folder: Path, rows: int, dim: int, unit_rows: int, vectors: Callable[[int, int], np.ndarray], kind: str
) -> None:
    """Units of `unit_rows` masks with the embeddings `vectors(rows, unit)`, and scores drawn from 0 to 1.

    A corpus that is there is kept where `kind` and the numbers are its own; another one made here is removed with
    its index and truth. Exits with a sentence where the folder holds what was not made here.
    """
    mark = json.dumps({"rows": rows, "dim": dim, "unit_rows": unit_rows, "kind": kind})
    mark_file = folder / "mark.json"
    if mark_file.is_file() and mark_file.read_text() == mark:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()) and not mark_file.is_file():
        raise SystemExit(f"--corpus {folder}: holds what no benchmark made; name another folder")
    mark_file.write_text("")  # from here on no longer the old corpus and not yet the new one, but made here
    for name in (MASKS_FOLDER, IMAGES_FOLDER, RECEIPTS_FOLDER, INDEX_FOLDER, TRUTH_FOLDER):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    model = {"name": "made", "sha256": {}, "licence": ""}
    info = describe("made", {}, {"segmenter": model, "embedder": model}, dim)
    write_info(str(folder), info)
    for number, start in enumerate(range(0, rows, unit_rows)):
        count = min(unit_rows, rows - start)
        named = f"{number:05d}"
        tables = {"images": images(start, count, named), "masks": masks(start, vectors(count, number), number)}
        commit_unit(str(folder), info, UnitResult(named, "", False, **tables))
    mark_file.write_text(mark)


def image_ids(start: int, count: int) -> list[str]:
    return [f"shard/{row // MASKS_AN_IMAGE:09d}.jpg" for row in range(start, start + count)]


def masks(start: int, vectors: np.ndarray, seed: int) -> pa.Table:
    count, dim = vectors.shape
    schema = masks_schema(dim)
    sizes = pa.FixedSizeListArray.from_arrays(pa.array(np.full(2 * count, 8, np.int32)), 2)
    columns = {
        "image_id": pa.array(image_ids(start, count)),
        "mask_index": pa.array(np.arange(start, start + count, dtype=np.int32) % MASKS_AN_IMAGE),
        "bbox": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 * count, np.float32)), 4),
        "area": pa.array(np.ones(count, np.int32)),
        "score": pa.array(np.random.default_rng([seed, 1]).random(count, np.float32)),
        "stability": pa.array(np.ones(count, np.float32)),
        "rle": pa.StructArray.from_arrays([sizes, pa.array(["0b10"] * count)], fields=list(schema.field("rle").type)),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).reshape(-1)), dim),
    }
    return pa.table(columns, schema=schema)


def images(start: int, count: int, unit_id: str) -> pa.Table:
    schema = images_schema()
    ids = list(dict.fromkeys(image_ids(start, count)))
    row = {"unit_id": unit_id, "width": 8, "height": 8, "n_masks": MASKS_AN_IMAGE, "sha256": "0" * 64, "status": "ok"}
    return pa.Table.from_pylist([row | {"image_id": name, "uri": f"s3://photos/{name}"} for name in ids], schema=schema)
