"""Average recall and precision of ranked objects, for many numbers of proposals and sizes at once.

Protocol: COCO evaluation (pycocotools `cocoeval.py`), whose figures these are to rounding; with recall for any
number of proposals, since a greedy match by rank does not look at later ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.evaluate.coco_files import Objects

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZES: dict[str, tuple[float, float]] = {
    "all": (0, 1e10),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}
_LIMITS = np.array(list(SIZES.values()))
_RECALLS = np.linspace(0, 1, 101)
_UNMATCHED, _MATCHED, _IGNORED = 0, 1, 2


@dataclass
class Tally:
    """Matches of one category, or of all as one, over the images added so far. `max_det` objects an image count."""

    max_det: int
    truths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(SIZES), np.int64))
    _by_rank: NDArray[np.int64] = field(init=False)
    _scores: list[NDArray[np.float64]] = field(default_factory=list)
    _outcomes: list[NDArray[np.uint8]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_rank = np.zeros((len(SIZES), len(IOU_THRESHOLDS), self.max_det), np.int64)

    def add(self, truth: Objects, found: Objects, kind: str) -> None:
        """Match one image's objects by `kind`, "mask" or "box"; all of one category."""
        order = np.argsort(-found.scores, kind="stable")[: self.max_det]
        boxes = found.boxes_xywh[order]
        if kind == "mask":
            assert truth.rles is not None and found.rles is not None
            ious = _ious([found.rles[index] for index in order], truth.rles, truth.crowd)
            areas = found.areas[order]
        else:
            ious = _ious(boxes, truth.boxes_xywh, truth.crowd)
            areas = boxes[:, 2] * boxes[:, 3]
        outcomes, counted = match_by_rank(ious, truth.crowd, truth.areas, areas)
        self.truths += counted
        self._by_rank[:, :, : len(order)] += outcomes == _MATCHED
        self._scores.append(found.scores[order])
        self._outcomes.append(outcomes)

    def recall(self, count: int) -> NDArray[np.float64]:
        """Recall of the first `count` objects of each image, float64 [sizes, IoU thresholds]; NaN without truths."""
        found = self._by_rank[:, :, :count].sum(2)
        return np.asarray(np.where(self.truths > 0, found.T / np.maximum(self.truths, 1), np.nan).T)

    def precision(self) -> NDArray[np.float64]:
        """Average precision, float64 [sizes, IoU thresholds]; NaN without truths."""
        out = np.full((len(SIZES), len(IOU_THRESHOLDS)), np.nan)
        if not self._scores:
            return out
        order = np.argsort(-np.concatenate(self._scores), kind="stable")
        for size, truths in enumerate(self.truths.tolist()):
            for level in range(len(IOU_THRESHOLDS)):
                outcomes = np.concatenate([each[size, level] for each in self._outcomes])[order]
                if truths:
                    out[size, level] = _average_precision(outcomes[outcomes != _IGNORED] == _MATCHED, truths)
        return out


def match_by_rank(
    ious: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    truth_areas: NDArray[np.float64],
    found_areas: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Give each found object, from the first, the free labelled one it overlaps most.

    `ious` float64 [found, labelled]. A labelled object that is a crowd or of another size is taken only where no
    other can be, and neither counts. Returns outcomes uint8 [sizes, IoU thresholds, found] (0 unmatched, 1
    matched, 2 does not count) and the number of labelled objects that count, int64 [sizes].
    """
    low, high = _LIMITS[:, :1], _LIMITS[:, 1:]
    counts = ~crowd & (truth_areas >= low) & (truth_areas <= high)
    outside = (found_areas < low) | (found_areas > high)
    levels = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    outcomes = np.repeat(np.where(outside, _IGNORED, _UNMATCHED).astype(np.uint8)[:, None], len(levels), axis=1)
    free = np.ones((len(_LIMITS), len(levels), len(crowd)), np.bool_)
    for index, overlaps in enumerate(ious):
        near = np.flatnonzero(overlaps >= levels[0])
        if not len(near):
            continue
        near = near[::-1]  # of equal overlaps the last one is taken, and argmax gives the first
        possible = (overlaps[near] >= levels[:, None]) & (free[:, :, near] | crowd[near])
        counted = possible & counts[:, None, near]
        taken = np.where(counted.any(2, keepdims=True), counted, possible)
        size, level = np.nonzero(taken.any(2))
        choice = near[np.where(taken, overlaps[near], -1)[size, level].argmax(1)]
        free[size, level, choice] = False
        outcomes[size, level, index] = np.where(counts[size, choice], _MATCHED, _IGNORED)
    return outcomes, counts.sum(1)


def area_under_recall(recalls: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Mean of the recalls over the logarithm of the number of proposals."""
    places = np.log(counts)
    return float(((recalls[1:] + recalls[:-1]) / 2 * np.diff(places)).sum() / (places[-1] - places[0]))


def _ious(found: object, truth: object, crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    ious = coco_mask.iou(found, truth, crowd.astype(np.uint8).tolist())
    # pycocotools answers [] where either is empty.
    return np.asarray(ious, np.float64).reshape(-1, len(crowd)) if len(crowd) else np.zeros((len(found), 0))  # type: ignore[arg-type]


def _average_precision(matched: NDArray[np.bool_], truths: int) -> float:
    hits = np.cumsum(matched)
    if not len(hits):
        return 0.0
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / truths, _RECALLS, side="left")
    return float(np.append(precision, 0)[places].mean())
