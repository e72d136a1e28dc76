"""AUPRO by the definition: a threshold at a time, a region at a time."""

from __future__ import annotations

import itertools

import numpy as np
import skimage.measure


def aupro(scores: list[np.ndarray], truths: list[np.ndarray], limit: float) -> float:
    """Mean overlap with each region against false positives, up to a limit, normalised."""
    outside = sum((~truth).sum() for truth in truths)
    curve = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([each.ravel() for each in scores]))[::-1]:
        false, overlaps = 0, []
        for score, truth in zip(scores, truths, strict=True):
            found = score >= threshold
            false += (found & ~truth).sum()
            labels = skimage.measure.label(truth, connectivity=2)
            overlaps += [found[labels == label].mean() for label in range(1, labels.max() + 1)]
        curve.append((false / outside, float(np.mean(overlaps))))
    area = 0.0
    for (left, low), (right, high) in itertools.pairwise(curve):
        width = min(right, limit) - left
        if width > 0:
            end = low + (high - low) * width / (right - left)
            area += width * (low + end) / 2
    return area / limit
