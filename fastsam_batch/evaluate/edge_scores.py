"""Boundary precision and recall: counts an image, and the figures over a set.

Protocol: Berkeley Segmentation Benchmark (Martin, Fowlkes and Malik 2004; Arbelaez et al. 2011). An edge map is
cut at 99 thresholds and thinned. Its pixels are matched one to one with each person's, no pair further apart
than .0075 of the diagonal. Recall counts the people's pixels that have a partner, precision the map's pixels
that have one with anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.evaluate.matching import PixelMatcher
from fastsam_batch.evaluate.thinning import thin

THRESHOLDS = np.linspace(0.01, 0.99, 99)
MAX_DISTANCE = 0.0075


@dataclass(frozen=True)
class EdgeCounts:
    """Pixels of one image at each threshold, int64 [99].

    `true_matched` of `true` pixels of all people, `found_matched` of `found` pixels of the map.
    """

    image: str
    true_matched: NDArray[np.int64]
    true: NDArray[np.int64]
    found_matched: NDArray[np.int64]
    found: NDArray[np.int64]


def count_edges(
    image: str,
    edges: NDArray[np.float64],
    truths: Sequence[NDArray[np.bool_]],
    max_distance: float = MAX_DISTANCE,
) -> EdgeCounts:
    """Match an edge map float64 [h, w] in [0, 1] with the boundaries of each person, bool [h, w].

    `max_distance` is a share of the diagonal. Raises ValueError for shapes that differ.
    """
    if any(truth.shape != edges.shape for truth in truths):
        raise ValueError(f"the edge map is {edges.shape} and the segmentations are {truths[0].shape} pixels")
    radius = max_distance * float(np.hypot(*edges.shape))
    matchers = [PixelMatcher(truth, radius, edges >= THRESHOLDS[0]) for truth in truths]
    counts = np.zeros((4, len(THRESHOLDS)), np.int64)
    counts[1] = sum(matcher.truths for matcher in matchers)
    # Upwards: pairs come from the fullest map, nearest first, and stay until one of their pixels goes.
    for column, threshold in zip(counts.T, THRESHOLDS, strict=True):
        found = thin(edges >= threshold)
        with_partner = np.zeros(found.size, np.bool_)
        for matcher in matchers:
            with_partner[matcher.update(found)] = True
        column[0] = sum(matcher.matched for matcher in matchers)
        column[2:] = np.count_nonzero(with_partner), np.count_nonzero(found)
    return EdgeCounts(image, *counts)


def summarise_edges(counts: Sequence[EdgeCounts]) -> dict[str, Any]:
    """ODS, OIS, AP, R50, the threshold of ODS, each image's best threshold, and the curve.

    As the benchmark's `collect_eval_bdry`: ODS is the best F of the summed counts, with recall and precision
    interpolated between thresholds; OIS takes each image's counts at its own best threshold; AP is the mean of
    precision over recalls 0, .01 … 1, zero where the curve does not reach; R50 the recall at precision .5, or
    the nearest to it that the curve reaches.
    """
    totals = np.sum([[c.true_matched, c.true, c.found_matched, c.found] for c in counts], axis=0)
    recall, precision = _share(totals[0], totals[1]), _share(totals[2], totals[3])
    per_image, best_totals = [], np.zeros(4, np.int64)
    for c in counts:
        own_recall, own_precision = _share(c.true_matched, c.true), _share(c.found_matched, c.found)
        scores = f_measure(own_recall, own_precision)
        best = int(scores.argmax())
        best_totals += [c.true_matched[best], c.true[best], c.found_matched[best], c.found[best]]
        per_image.append(
            {
                "image": c.image,
                "threshold": round(float(THRESHOLDS[best]), 2),
                "recall": float(own_recall[best]),
                "precision": float(own_precision[best]),
                "F": float(scores[best]),
            }
        )
    ods, threshold = _best_between(recall, precision)
    ois = f_measure(_share(best_totals[:1], best_totals[1:2]), _share(best_totals[2:3], best_totals[3:]))
    return {
        "images": len(counts),
        "ODS": ods,
        "OIS": float(ois[0]),
        "AP": _average_precision(recall, precision),
        "R50": _recall_at_half(recall, precision),
        "threshold": threshold,
        "per_image": per_image,
        "curve": {
            "threshold": [round(float(value), 2) for value in THRESHOLDS],
            "recall": recall.tolist(),
            "precision": precision.tolist(),
        },
    }


def f_measure(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """The harmonic mean of both, 0 where both are."""
    total = recall + precision
    return np.asarray(2 * recall * precision / np.where(total > 0, total, 1))


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(part / np.maximum(whole, 1))


def _best_between(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> tuple[float, float]:
    """The best F on the lines between neighbouring thresholds, a hundred steps each, and its threshold."""
    steps = np.linspace(0, 1, 100)
    places = np.arange(len(THRESHOLDS) - 1)[:, None] + steps
    curves = [np.interp(places, np.arange(len(THRESHOLDS)), values) for values in (recall, precision, THRESHOLDS)]
    scores = f_measure(curves[0], curves[1])
    best = np.unravel_index(scores.argmax(), scores.shape)
    return float(scores[best]), float(curves[2][best])


def _average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    recalls, first = np.unique(recall, return_index=True)
    sampled = np.interp(np.linspace(0, 1, 101), recalls, precision[first], left=0, right=0)
    return float(sampled.sum() * 0.01)


def _recall_at_half(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    precisions, first = np.unique(precision, return_index=True)
    return float(np.interp(0.5, precisions, recall[first]))
