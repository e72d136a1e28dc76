"""Edges thinned to lines one pixel wide."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

# Weights that give a pixel's eight neighbours a bit each, counterclockwise from the east.
_BITS = np.array([[8, 4, 2], [16, 0, 1], [32, 64, 128]], np.float32)


def thin(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask bool [h, w] worn away from alternate sides until nothing changes; lines and joints stay.

    Method: Guo and Hall 1989, as in Lam, Lee and Suen 1992, which MATLAB's `bwmorph(…, 'thin', inf)` names.
    """
    left = edges.astype(np.uint8)
    changed = True
    while changed:
        changed = False
        for kept in _kept():
            neighbours = cv2.filter2D(left, -1, _BITS, borderType=cv2.BORDER_CONSTANT)
            worn = cv2.bitwise_and(left, cv2.LUT(neighbours, kept))
            changed = changed or not np.array_equal(worn, left)
            left = np.asarray(worn, np.uint8)
    return left.view(np.bool_)


@cache
def _kept() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """For each of the two sides, by the neighbours' bits: 0 where it takes the pixel, else 1."""
    x = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(np.bool_)
    straight, diagonal, following = x[:, 0::2], x[:, 1::2], np.roll(x, -2, axis=1)[:, 0::2]
    crossings = (~straight & (diagonal | following)).sum(1)
    neighbours = np.minimum((straight | diagonal).sum(1), (diagonal | following).sum(1))
    removable = (crossings == 1) & (neighbours >= 2) & (neighbours <= 3)
    first = removable & ~((x[:, 1] | x[:, 2] | ~x[:, 7]) & x[:, 0])
    second = removable & ~((x[:, 5] | x[:, 6] | ~x[:, 3]) & x[:, 4])
    return (~first).astype(np.uint8), (~second).astype(np.uint8)
