"""How much masks cover each other, counted on runs, and which of them say the same thing again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

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
        both = _box_intersections(boxes_xywh[earlier], boxes_xywh[index])
        both = np.minimum(both, np.minimum(areas[earlier], areas[index]))
        possible = earlier[both >= least_iou * (areas[earlier] + areas[index] - both)]
        for other in possible.tolist():
            if iou(runs(index), runs(other)) >= least_iou:
                repeated[index] = True
                break
    return repeated


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
