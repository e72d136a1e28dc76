"""Parts and holes of a dense mask, counted the slow way."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_EIGHT = np.ones((3, 3), int)


def count_parts(mask: np.ndarray) -> int:
    """Pieces of a mask [h, w] that touch at sides or corners."""
    return int(ndimage.label(mask, _EIGHT)[1])


def count_holes(mask: np.ndarray) -> int:
    """Pieces of background, joined by sides, that do not reach the outside."""
    return int(ndimage.label(np.pad(~mask, 1, constant_values=True))[1]) - 1


def part_masks(mask: np.ndarray) -> list[np.ndarray]:
    """Each piece alone, ordered by its first pixel down the columns."""
    labels, _ = ndimage.label(mask, _EIGHT)
    in_order = dict.fromkeys(labels.T[labels.T > 0].tolist())
    return [labels == label for label in in_order]
