"""The slow, obvious boundary benchmark: a matching anew for each threshold, figures by loops."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching


def pairs_at_most(found: np.ndarray, truth: np.ndarray, radius: float) -> int:
    """The number of pairs in a maximum matching of two masks' pixels within a distance."""
    left, right = np.argwhere(found), np.argwhere(truth)
    if not len(left) or not len(right):
        return 0
    near = np.hypot(*(left[:, None] - right[None]).transpose(2, 0, 1)) <= radius
    return int((maximum_bipartite_matching(coo_matrix(near).tocsr(), perm_type="column") >= 0).sum())


def best_f(recall: np.ndarray, precision: np.ndarray, thresholds: np.ndarray) -> tuple[float, float]:
    """The best F and its threshold on straight lines between neighbours."""
    best = (0.0, 0.0)
    for i in range(1, len(thresholds)):
        for d in np.linspace(0, 1, 100):
            r = recall[i] * d + recall[i - 1] * (1 - d)
            p = precision[i] * d + precision[i - 1] * (1 - d)
            f = 2 * p * r / (p + r) if p + r else 0.0
            if f > best[0]:
                best = (f, thresholds[i] * d + thresholds[i - 1] * (1 - d))
    return best
