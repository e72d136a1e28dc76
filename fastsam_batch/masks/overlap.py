"""How much masks cover each other, counted on runs, and which of them say the same thing again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.rle import Rle
from fastsam_batch.masks.runs import Runs, iou, runs_of, union


def intersection(one: Runs, other: Runs) -> int:
    """Pixels in both masks."""
    return one.area + other.area - union([one, other]).area


def duplicates(
    rles: Sequence[Rle],
    areas: NDArray[np.int64],
    boxes_xywh: NDArray[np.float64],
    labels: NDArray[np.int64],
    least_iou: float,
) -> NDArray[np.bool_]:
    """Which masks of one image repeat an earlier one: bool [n].

    In the order given, a mask is a duplicate where its IoU with an earlier mask of the same label that is none
    reaches `least_iou`. `areas` int64 [n] pixels, `boxes_xywh` [n, 4] tight boxes, `labels` int64 [n].
    """
    runs = lru_cache(maxsize=None)(lambda index: runs_of(rles[index]))
    repeated = np.zeros(len(rles), np.bool_)
    for index in range(1, len(rles)):
        earlier = np.flatnonzero(~repeated[:index] & (labels[:index] == labels[index]))
        repeated[index] = _like_one_of(earlier, index, runs, areas, boxes_xywh, lambda found: found >= least_iou)
    return repeated


def best_apart(
    masks: Sequence[Runs], areas: NDArray[np.int64], boxes_xywh: NDArray[np.float64], most_iou: float, most: int
) -> NDArray[np.int64]:
    """Non-maximum suppression by masks: the places of the first `most` that are kept, int64 [k], ascending.

    In the order given, best first, a mask is kept unless its IoU with one that is kept is above `most_iou`. Masks are
    not empty; `areas` int64 [n] pixels, `boxes_xywh` [n, 4] tight boxes.
    """
    kept = np.zeros(min(most, len(masks)), np.int64)
    count = 0
    for index in range(len(masks)):
        if count == len(kept):
            break
        if not _like_one_of(kept[:count], index, masks.__getitem__, areas, boxes_xywh, lambda found: found > most_iou):
            kept[count] = index
            count += 1
    return kept[:count]


def _like_one_of(
    others: NDArray[np.int64],
    index: int,
    runs: Callable[[int], Runs],
    areas: NDArray[np.int64],
    boxes_xywh: NDArray[np.float64],
    like: Callable[[Any], Any],
) -> bool:
    """Whether the IoU of a mask with one of the others is `like` so; boxes and areas say where it cannot be."""
    both = _box_intersections(boxes_xywh[others], boxes_xywh[index])
    both = np.minimum(both, np.minimum(areas[others], areas[index]))
    possible = others[like(both / (areas[others] + areas[index] - both))]
    return any(like(iou(runs(index), runs(other))) for other in possible.tolist())


def nested(
    rles: Sequence[Rle],
    areas: NDArray[np.int64],
    boxes_xywh: NDArray[np.float64],
    labels: NDArray[np.int64],
    share: float,
) -> NDArray[np.bool_]:
    """Which masks of one image lie in a larger one: bool [n]. Arguments as in `duplicates`.

    A mask is nested where at least `share` of its pixels are those of one larger mask of the same label; of
    equally large masks the earlier counts as larger.
    """
    runs = lru_cache(maxsize=None)(lambda index: runs_of(rles[index]))
    inside = np.zeros(len(rles), np.bool_)
    order = np.argsort(-areas, kind="stable")
    for place, index in enumerate(order.tolist()):
        larger = order[:place]
        larger = larger[labels[larger] == labels[index]]
        both = _box_intersections(boxes_xywh[larger], boxes_xywh[index])
        for other in larger[both >= share * areas[index]].tolist():
            if intersection(runs(index), runs(other)) >= share * areas[index]:
                inside[index] = True
                break
    return inside


def _box_intersections(boxes_xywh: NDArray[np.float64], box_xywh: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.maximum(boxes_xywh[:, :2], box_xywh[:2])
    high = np.minimum(boxes_xywh[:, :2] + boxes_xywh[:, 2:], box_xywh[:2] + box_xywh[2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=1), np.float64)
