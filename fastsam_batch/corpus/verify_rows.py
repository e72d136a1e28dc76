"""Rows of one unit against what the contract says in words: ids, counts, ranges, boxes, runs, vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.masks.rle import foreground_runs_of, tight_box

# float16 rounds a unit vector's length by at most about 5e-4.
UNIT_LENGTH_TOLERANCE = 1e-2
# Starts and ends of a mask's foreground runs.
_Runs: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
_SHA256 = re.compile(r"[0-9a-f]{64}")


def image_problems(images: pa.Table, unit_id: str) -> list[str]:
    """What is wrong with rows of images (schema as the contract's), one sentence a kind of fault."""
    rows = images.to_pylist()
    checks: list[tuple[str, Callable[[dict[str, Any]], bool]]] = [
        (f"have another unit_id than {unit_id}", lambda row: row["unit_id"] != unit_id),
        ("have a status other than ok and failed", lambda row: row["status"] not in ("ok", "failed")),
        ("have a sha256 that is not one", lambda row: not _SHA256.fullmatch(row["sha256"] or "0" * 64)),
        ("have a negative n_masks", lambda row: row["n_masks"] < 0),
        ("are ok but have an error", lambda row: row["status"] == "ok" and _has_error(row)),
        ("are ok but have no width and height", lambda row: row["status"] == "ok" and not _has_size(row)),
        ("are ok but have no sha256", lambda row: row["status"] == "ok" and row["sha256"] is None),
        ("failed without an error_kind", lambda row: row["status"] == "failed" and not row["error_kind"]),
        (
            "failed without an error_message",
            lambda row: row["status"] == "failed" and not row["error_message"],
        ),
        (
            "failed but have a width or height",
            lambda row: row["status"] == "failed" and (row["width"] or row["height"]),
        ),
        ("failed but have masks", lambda row: row["status"] == "failed" and row["n_masks"] > 0),
    ]
    faults = [(fault, [row["image_id"] for row in rows if broken(row)]) for fault, broken in checks]
    repeated = [image_id for image_id, count in Counter(row["image_id"] for row in rows).items() if count > 1]
    faults.append(("are listed more than once", repeated))
    return [_sentence("image", fault, names) for fault, names in faults if names]


def mask_problems(masks: pa.Table, images: pa.Table, embedded: bool) -> list[str]:
    """What is wrong with rows of masks of a unit with these images; `embedded`: the corpus has vectors."""
    columns = masks.select(["image_id", "mask_index"]).to_pydict()
    names = [f"{image}#{index}" for image, index in zip(*columns.values(), strict=True)]
    ok = [row for row in images.to_pylist() if row["status"] == "ok"]
    sizes = {row["image_id"]: (row["height"], row["width"]) for row in ok}
    problems = _count_problems(columns["image_id"], images)
    problems += _order_problems(masks)
    strangers = [row for row, image in enumerate(columns["image_id"]) if image not in sizes]
    faults: list[tuple[str, Sequence[int]]] = [("belong to no image of this unit that is ok", strangers)]
    for column in ("score", "stability"):
        values = masks[column].to_numpy()
        faults.append((f"have a {column} outside [0, 1]", np.flatnonzero(~((values >= 0) & (values <= 1))).tolist()))
    problems += [_sentence("mask", fault, [names[row] for row in rows]) for fault, rows in faults if rows]
    problems += _rle_problems(masks, names, sizes)
    return problems + _embedding_problems(masks["embedding"], names, embedded)


def _count_problems(image_ids: list[str], images: pa.Table) -> list[str]:
    found = Counter(image_ids)
    said = dict(zip(images["image_id"].to_pylist(), images["n_masks"].to_pylist(), strict=True))
    wrong = [f"{image} ({found[image]} instead of {count})" for image, count in said.items() if found[image] != count]
    return [_sentence("image", "have another number of masks than their n_masks", wrong)] if wrong else []


def _order_problems(masks: pa.Table) -> list[str]:
    indices: dict[str, list[tuple[int, float]]] = {}
    for row in masks.select(["image_id", "mask_index", "score"]).to_pylist():
        indices.setdefault(row["image_id"], []).append((row["mask_index"], row["score"]))
    gaps = [image for image, rows in indices.items() if sorted(i for i, _ in rows) != list(range(len(rows)))]
    faults = [("have a mask_index that does not count from 0", gaps)]
    disorder = []
    for image, rows in indices.items():
        scores = [score for _, score in sorted(rows)]
        if scores != sorted(scores, reverse=True):
            disorder.append(image)
    faults.append(("have masks that are not by descending score", disorder))
    return [_sentence("image", fault, images) for fault, images in faults if images]


def _rle_problems(masks: pa.Table, names: list[str], sizes: dict[str, tuple[int, int]]) -> list[str]:
    faults: dict[str, list[str]] = {}
    rows = masks.select(["image_id", "bbox", "area", "rle"]).to_pylist()
    named = zip(names, rows, strict=True)
    for (image_id, size), group in groupby(named, lambda each: (each[1]["image_id"], each[1]["rle"]["size"])):
        of_image = list(group)
        runs = _runs([row["rle"]["counts"] for _, row in of_image], (size[0], size[1]))
        for (name, row), of_mask in zip(of_image, runs, strict=True):
            for fault in _rle_faults(row, of_mask, sizes.get(image_id)):
                faults.setdefault(fault, []).append(name)
    return [_sentence("mask", fault, where) for fault, where in faults.items()]


def _runs(counts: list[str], size: tuple[int, int]) -> list[_Runs | None]:
    """Of each mask its foreground runs, None of one that has none or is damaged."""
    if not size[0] or not size[1] or min(size) < 1:
        return [None] * len(counts)
    try:
        return [*foreground_runs_of(counts, size)]  # in one pass: half of the time
    except ValueError:
        return [None] if len(counts) == 1 else [runs for each in counts for runs in _runs([each], size)]


def _rle_faults(row: dict[str, Any], runs: _Runs | None, image_hw: tuple[int, int] | None) -> list[str]:
    height, width = row["rle"]["size"]
    if not height or not width or min(height, width) < 1:
        return ["have an rle of no size"]
    if runs is None:
        return ["have an rle that is not one, or not of its size"]
    starts, ends = runs
    faults = []
    if image_hw is not None and (height, width) != image_hw:
        faults.append("have an rle of another size than their image")
    area = int((ends - starts).sum())
    if area == 0:
        return [*faults, "are empty"]
    if area != row["area"]:
        faults.append("have another area than their rle")
    filled = ends > starts
    if list(tight_box(starts[filled], ends[filled], height)) != row["bbox"]:
        faults.append("have a bbox that is not the tight box of their rle")
    return faults


def _embedding_problems(embedding: pa.ChunkedArray, names: list[str], embedded: bool) -> list[str]:
    rows = np.flatnonzero(embedding.is_valid().to_numpy())
    if not embedded:
        there = [names[row] for row in rows]
        return [_sentence("mask", "have an embedding in a corpus without an embedder", there)] if there else []
    vectors = embedding_matrix(embedding.combine_chunks())[rows]
    lengths = np.sqrt((vectors**2).sum(axis=1))
    finite = np.isfinite(lengths)
    faults = {
        "have an embedding that is not finite": rows[~finite],
        "have an embedding of another length than 1": rows[finite & (np.abs(lengths - 1) > UNIT_LENGTH_TOLERANCE)],
    }
    return [_sentence("mask", fault, [names[row] for row in where]) for fault, where in faults.items() if len(where)]


def _has_error(row: dict[str, Any]) -> bool:
    return row["error_kind"] is not None or row["error_message"] is not None


def _has_size(row: dict[str, Any]) -> bool:
    return bool(row["width"]) and bool(row["height"]) and min(row["width"], row["height"]) > 0


def _sentence(noun: str, fault: str, names: list[str]) -> str:
    return f"{noun}s that {fault}: {len(names)}, the first is {names[0]}"
