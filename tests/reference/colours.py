"""Colours of masks the slow way: every mask's grid is held, and each is compared with all before it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from fastsam_batch.masks.draw import _CELL, _CLEAR_DIFFERENCE, PALETTE, View, _cells, _clarity, _lab, show


def distinct_colours(image: np.ndarray, masks: list, view: View) -> list[tuple[int, int, int]]:
    """As `masks.draw.distinct_colours`."""
    coarse = view.in_cells(_CELL)
    pixels = _lab(show(image, coarse))
    palette = _lab(np.asarray([PALETTE], np.uint8))[0]
    covered = [_cells(mask, coarse) for mask in masks]
    grown = [ndimage.binary_dilation(cells, np.ones((3, 3))) for cells in covered]
    chosen: list[int] = []
    for index, cells in enumerate(covered):
        touching = [other for other in range(index) if (grown[index] & grown[other]).any()]
        distances = [np.linalg.norm(palette - palette[chosen[other]], axis=1) for other in touching]
        if cells.any():
            distances.append(_clarity(palette, pixels[cells].mean(axis=0)))
        contrast = np.min([np.full(len(palette), _CLEAR_DIFFERENCE), *distances], axis=0)
        ranks = [(-contrast[colour], chosen.count(colour), colour) for colour in range(len(palette))]
        chosen.append(min(ranks)[2])
    return [PALETTE[index] for index in chosen]
