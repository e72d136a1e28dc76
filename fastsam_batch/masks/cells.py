"""How much of each cell of a grid over the image a mask covers, from its runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.rle import Rle, decode_in_box

_SAMPLES_PER_CELL = 8  # a side: coverage is counted on at least 64 samples a cell, on every pixel of small cells


def cell_shares(rle: Rle, bbox_xywh: NDArray[np.float32], grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Shares float32 [rows * columns] of a mask's pixels that lie in each cell of a grid; they add up to 1.

    `bbox_xywh` the mask's tight box in whole pixels; the grid divides the image evenly into `grid_hw` (rows,
    columns). All 0 for a mask so thin that no sample meets it.
    """
    height, width = rle.size
    rows, columns = grid_hw
    x, y, box_width, box_height = (int(value) for value in bbox_xywh)
    step = max(int(min(height / rows, width / columns)) // _SAMPLES_PER_CELL, 1)
    mask = decode_in_box(rle, (x, y, box_width, box_height), step=step)
    # The samples' places, as decode_in_box has them: from the middle of the first step on.
    below = y + min(step // 2, (box_height - 1) % step) + step * np.arange(mask.shape[0])
    right = x + min(step // 2, (box_width - 1) % step) + step * np.arange(mask.shape[1])
    row = np.minimum(below, height - 1) * rows // height
    column = np.minimum(right, width - 1) * columns // width
    in_row, in_column = _starts(row), _starts(column)
    counts = np.add.reduceat(np.add.reduceat(mask.astype(np.float32), in_row, axis=0), in_column, axis=1)
    shares = np.zeros((rows, columns), np.float32)
    shares[np.ix_(row[in_row], column[in_column])] = counts / max(float(counts.sum()), 1.0)
    return shares.reshape(-1)


def _starts(ascending: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each new value of an ascending array begins."""
    starts: NDArray[np.int64] = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))
    return starts
