"""How well regions are covered: IoU, F-beta and MAE an image, AUROC and AUPRO over all pixels of a set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BETA_SQUARED = 0.3  # saliency's weight of precision over recall (Achanta et al. 2009)
MAX_FALSE_POSITIVES = 0.3  # AUPRO's limit (Bergmann et al. 2020)


def overlap_scores(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    """IoU, F-beta (beta squared .3) and MAE of two masks bool [h, w]; two empty masks agree fully."""
    both, either = np.count_nonzero(predicted & truth), np.count_nonzero(predicted | truth)
    weighted = BETA_SQUARED * np.count_nonzero(truth) + np.count_nonzero(predicted)
    return {
        "IoU": both / either if either else 1.0,
        "F_beta": (1 + BETA_SQUARED) * both / weighted if weighted else 1.0,
        "MAE": np.count_nonzero(predicted ^ truth) / predicted.size,
    }


@dataclass(frozen=True)
class Region:
    """One connected region: `mask` bool [h, w] of its tight box, whose corner is at pixel (`x`, `y`)."""

    x: int
    y: int
    mask: NDArray[np.bool_]


def regions_of(truth: NDArray[np.bool_]) -> Iterator[Region]:
    """The connected regions (8 neighbours) of a mask bool [h, w], from the top; one in memory at a time."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(truth.view(np.uint8), connectivity=8)
    for label, (x, y, width, height, _) in enumerate(stats[1:].tolist(), start=1):
        yield Region(x, y, labels[y : y + height, x : x + width] == label)


@dataclass(frozen=True)
class PixelScores:
    """Pixels of one image by their score, from which curves over many images are exact.

    `values` float64 [k] the distinct scores; `inside` and `outside` int64 [k] pixels of them in and out of the
    truth; `share` float64 [k] the sum over regions of the share of each that has the score; `regions` how many.
    """

    values: NDArray[np.float64]
    inside: NDArray[np.int64]
    outside: NDArray[np.int64]
    share: NDArray[np.float64]
    regions: int


def pixel_scores(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> PixelScores:
    """Count one image's scores float64 [h, w] against its truth bool [h, w]."""
    # Most pixels have the lowest score: to sort them with the others takes ten times as long.
    raised = scores > scores.min()
    values, place_of_raised = np.unique(scores[raised], return_inverse=True)
    values, place = np.append(scores.min(), values), np.zeros(scores.shape, np.int64)
    place[raised] = place_of_raised + 1
    count, labels = cv2.connectedComponents(truth.view(np.uint8), connectivity=8)
    sizes = np.bincount(labels.ravel(), minlength=count)
    share = np.asarray(np.bincount(place[truth], 1 / sizes[labels[truth]], len(values)), np.float64)
    inside = np.bincount(place[truth], minlength=len(values))
    return PixelScores(values, inside, np.bincount(place[~truth], minlength=len(values)), share, count - 1)


def auroc(images: list[PixelScores]) -> float | None:
    """Area under the curve of true against false positives over all pixels; None where one kind is missing."""
    inside, outside, _ = _by_descending_score(images)
    if not inside.sum() or not outside.sum():
        return None
    return _area(np.cumsum(outside) / outside.sum(), np.cumsum(inside) / inside.sum(), 1.0)


def aupro(images: list[PixelScores], limit: float = MAX_FALSE_POSITIVES) -> float | None:
    """Area under the mean overlap with each region against false positives up to `limit`, over `limit`.

    None where there is no region, or no pixel outside of them. Method: Bergmann et al. 2020.
    """
    _, outside, share = _by_descending_score(images)
    regions = sum(image.regions for image in images)
    if not regions or not outside.sum():
        return None
    return _area(np.cumsum(outside) / outside.sum(), np.cumsum(share) / regions, limit) / limit


def _by_descending_score(
    images: list[PixelScores],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    values, place = np.unique(np.concatenate([image.values for image in images]), return_inverse=True)
    columns = (np.concatenate([getattr(image, name) for image in images]) for name in ("inside", "outside", "share"))
    inside, outside, share = (np.bincount(place, column, len(values))[::-1].astype(np.float64) for column in columns)
    return inside, outside, share


def _area(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> float:
    """The area below straight lines from (0, 0) through the points, up to x = limit; x float64 [k] ascends to 1."""
    x, y = np.append(0.0, x), np.append(0.0, y)
    inner = int(np.count_nonzero(x <= limit))
    if x[inner - 1] < limit:
        # Between these two alone: np.interp over all takes the highest of points above one another.
        end = np.interp(limit, x[inner - 1 : inner + 1], y[inner - 1 : inner + 1])
        x, y = np.insert(x, inner, limit), np.insert(y, inner, end)
        inner += 1
    return float(((y[1:inner] + y[: inner - 1]) / 2 * np.diff(x[:inner])).sum())
