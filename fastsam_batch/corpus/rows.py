"""One image's result, and the tables of a unit made of such results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsam_batch.corpus.schema import SCHEMA_VERSION, images_schema, masks_schema
from fastsam_batch.masks.rle import Rle

FOOTER_KEY = b"fastsam_batch"
PART_BYTES = 1 << 30  # of run-length strings in one array: Arrow holds 2 GiB of text in one, and reads no more at once


@dataclass(frozen=True)
class MaskColumns:
    """n masks of an image by descending score, in pixels of the image.

    `scores`, `stability` float32 [n]; `areas` int64 [n]; `bboxes_xywh` float32 [n, 4]; `rles` n masks;
    `embeddings` float32 [n, D] with `embedded` bool [n] False where a mask has none.
    """

    scores: NDArray[np.float32]
    stability: NDArray[np.float32]
    areas: NDArray[np.int64]
    bboxes_xywh: NDArray[np.float32]
    rles: Sequence[Rle]
    embeddings: NDArray[np.float32]
    embedded: NDArray[np.bool_]

    @classmethod
    def found(
        cls,
        scores: NDArray[np.float32],
        stability: NDArray[np.float32],
        areas: NDArray[np.int64],
        bboxes_xywh: NDArray[np.float32],
        rles: Sequence[Rle],
    ) -> MaskColumns:
        """Masks that have no embeddings yet."""
        none = np.zeros((len(rles), 0), np.float32), np.zeros(len(rles), np.bool_)
        return cls(scores, stability, areas, bboxes_xywh, rles, *none)


@dataclass(frozen=True)
class ImageResult:
    """What became of one image: its masks, or why it has none. `image_hw` is (height, width)."""

    image_id: str
    uri: str
    sha256: str | None = None
    image_hw: tuple[int, int] | None = None
    masks: MaskColumns | None = None
    error_kind: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class UnitResult:
    """A unit's tables, ready to be committed, with what its receipt says of them."""

    unit_id: str
    shard: str
    last: bool
    images: pa.Table
    masks: pa.Table
    attempt: int = 1
    attempt_name: str = ""
    started_at: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)


def images_table(results: Sequence[ImageResult], unit_id: str) -> pa.Table:
    """Rows of images/<unit>.parquet in the order of `results`."""
    rows = [
        {
            "image_id": result.image_id,
            "uri": result.uri,
            "unit_id": unit_id,
            "width": result.image_hw[1] if result.image_hw else None,
            "height": result.image_hw[0] if result.image_hw else None,
            "n_masks": len(result.masks.rles) if result.masks else 0,
            "sha256": result.sha256,
            "status": "failed" if result.error_kind else "ok",
            "error_kind": result.error_kind,
            "error_message": result.error_message,
        }
        for result in results
    ]
    return pa.Table.from_pylist(rows, schema=images_schema())


def masks_table(results: Sequence[ImageResult], embedding_dim: int | None, part_bytes: int = PART_BYTES) -> pa.Table:
    """Rows of masks/<unit>.parquet: the images' masks in order, built from columns without a loop a row.

    The `rle` column is in as many chunks as keep their strings within `part_bytes` each.
    """
    schema = masks_schema(embedding_dim)
    found = [(result.image_id, result.masks) for result in results if result.masks]
    counts = [len(masks.rles) for _, masks in found]
    rles = [rle for _, masks in found for rle in masks.rles]
    boxes = _stack([masks.bboxes_xywh for _, masks in found], (0, 4), np.float32)
    columns = {
        "image_id": pa.array([name for (name, _), n in zip(found, counts, strict=True) for _ in range(n)], pa.string()),
        "mask_index": pa.array(_stack([np.arange(n) for n in counts], (0,), np.int32)),
        "bbox": pa.FixedSizeListArray.from_arrays(pa.array(boxes.reshape(-1)), type=schema.field("bbox").type),
        "area": pa.array(_stack([masks.areas for _, masks in found], (0,), np.int32)),
        "score": pa.array(_stack([masks.scores for _, masks in found], (0,), np.float32)),
        "stability": pa.array(_stack([masks.stability for _, masks in found], (0,), np.float32)),
        "rle": _run_lengths(rles, schema.field("rle").type, part_bytes),
        "embedding": _embeddings([masks for _, masks in found], schema.field("embedding").type),
    }
    return pa.table(columns, schema=schema)


def with_footer(table: pa.Table, name: str, fingerprint: str, models: dict[str, object]) -> pa.Table:
    """The table with the contract's name and version, the fingerprint and the models in its metadata."""
    footer = {"schema": f"{name}.v{SCHEMA_VERSION}", "fingerprint": fingerprint, "models": models}
    return table.replace_schema_metadata({FOOTER_KEY: json.dumps(footer, sort_keys=True).encode()})


def _run_lengths(rles: Sequence[Rle], kind: pa.StructType, part_bytes: int) -> pa.ChunkedArray:
    chunks = []
    for start, stop in _parts([len(rle.counts) for rle in rles], part_bytes):
        part = rles[start:stop]
        sizes = pa.array(np.array([rle.size for rle in part], np.int32).reshape(-1))
        of_sizes = pa.FixedSizeListArray.from_arrays(sizes, type=kind.field("size").type)
        counts = pa.array([rle.counts for rle in part], pa.string())
        chunks.append(pa.StructArray.from_arrays([of_sizes, counts], fields=list(kind)))
    return pa.chunked_array(chunks, type=kind)


def _parts(lengths: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) of items whose lengths add up to `limit` at most, or of one item; at least one range."""
    start = held = 0
    for index, length in enumerate(lengths):
        if index > start and held + length > limit:
            yield start, index
            start, held = index, 0
        held += length
    yield start, len(lengths)


def _embeddings(found: Sequence[MaskColumns], kind: pa.DataType) -> pa.Array:
    embedded = _stack([masks.embedded for masks in found], (0,), np.bool_)
    if not embedded.any():
        return pa.nulls(len(embedded), kind)
    values = _stack([masks.embeddings for masks in found], (0, kind.list_size), np.float16)
    flat = pa.array(values.reshape(-1), pa.float16())
    return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=pa.array(~embedded))


def _stack(parts: Sequence[NDArray[Any]], empty: tuple[int, ...], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(empty, dtype)
