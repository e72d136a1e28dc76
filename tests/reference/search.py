"""Text search, slow and obvious: every mask scored in float64, all of them sorted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools import mask as coco


def best_masks(
    rows: list[dict[str, Any]], vector: np.ndarray, top_k: int, min_score: float | None = None
) -> list[tuple[float, str, int]]:
    """(similarity, image_id, mask_index) of the best masks, best first."""
    return answers(rows, vector[None], top_k, min_score=min_score)


def answers(
    rows: list[dict[str, Any]],
    any_of: np.ndarray,
    top_k: int,
    *,
    min_score: float | None = None,
    none_of: np.ndarray | tuple[()] = (),
    per_image: int | None = None,
    distinct: float | None = None,
    convinces: Callable[[dict[str, Any]], bool] = lambda row: True,
    candidates: int | None = None,
) -> list[tuple[float, str, int]]:
    """As `best_masks`, by the best of several vectors, above others, thinned out from the best mask on.

    Only so many `candidates` are looked at for what `convinces`, not counting what is thinned out of that.
    """
    scored = []
    for row in rows:
        if row["embedding"] is None:
            continue
        similarity = max(cosine(row, vector) for vector in any_of)
        enough = min_score is None or similarity >= min_score
        if enough and all(similarity > cosine(row, vector) for vector in none_of):
            scored.append((similarity, row["image_id"], row["mask_index"], row))
    kept: list[tuple[float, str, int, dict[str, Any]]] = []
    counted = 0
    for hit in sorted(scored, key=lambda hit: (-hit[0], hit[1], hit[2])):
        if counted == candidates:
            break
        if not convinces(hit[3]):
            counted += 1
            continue
        of_image = [other[3] for other in kept if other[1] == hit[1]]
        if per_image is not None and len(of_image) >= per_image:
            continue
        if distinct is not None and any(iou(hit[3], other) >= distinct for other in of_image):
            continue
        kept.append(hit)
        counted += 1
    return [hit[:3] for hit in kept[:top_k]]


def cosine(row: dict[str, Any], vector: np.ndarray) -> float:
    """Cosine of a stored embedding with a unit vector, rounded to float32 at the end."""
    embedding = np.asarray(row["embedding"], np.float16).astype(np.float64)
    return float(np.float32(np.sum(embedding * vector.astype(np.float64))))


def iou(row: dict[str, Any], other: dict[str, Any]) -> float:
    """IoU of two masks, by pycocotools."""
    first, second = ({**each["rle"], "counts": each["rle"]["counts"].encode()} for each in (row, other))
    return float(coco.iou([first], [second], [0])[0, 0])
