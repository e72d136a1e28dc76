"""How much of each cell of a grid over a box a mask covers, exactly, from its runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.rle import Rle, foreground_runs


def box_coverage(rle: Rle, box_xywh: tuple[int, int, int, int], grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Covered shares in [0, 1], float32 `grid_hw`, of the cells that divide a box evenly.

    The box is the mask's tight box in whole pixels, and the grid has no more cells a side than the box has pixels.
    Takes time with the runs and the cells, not with the pixels. Raises ValueError as `foreground_runs`.
    """
    x, y, width, height = box_xywh
    rows, columns = grid_hw
    column, top, bottom = _within_columns(*foreground_runs(rle), rle.size[0])
    # A column of pixels lies in one column of cells, or in two: the share of its width in the first of them.
    at = (column - x) * (columns / width)
    first = np.minimum(at.astype(np.int64), columns - 1)
    in_first = np.minimum((first + 1 - at) * (width / columns), 1.0)
    in_first[first == columns - 1] = 1.0

    # Down a column, coverage rises by a run's start and falls by its end, in the cell that holds it in part.
    ends = (np.concatenate([top, bottom]) - y) * (rows / height)
    cell = ends.astype(np.int64)
    rest = ends - cell
    sign = np.repeat([columns / width, -columns / width], len(column))
    line = np.tile(first, 2) * (rows + 2) + cell
    step, later = sign * (1 - rest), sign * rest
    here = np.tile(in_first, 2)
    places = np.concatenate([line, line + 1, line + rows + 2, line + rows + 3])
    steps = np.concatenate([step * here, later * here, step * (1 - here), later * (1 - here)])
    changes = np.bincount(places, steps, minlength=(columns + 1) * (rows + 2))
    shares = changes.cumsum().reshape(-1, rows + 2)[:columns, :rows].T.astype(np.float32, order="C")
    return np.clip(shares, 0, 1, out=shares)


def _within_columns(
    starts: NDArray[np.int64], ends: NDArray[np.int64], height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Runs cut at the ends of image columns: column, first row and end row (exclusive) of each piece."""
    column, last = starts // height, (ends - 1) // height
    top, bottom = starts - column * height, ends - last * height
    pieces = last - column + 1
    if (pieces == 1).all():
        return column, top, bottom
    begin = np.cumsum(pieces) - pieces
    cut_top, cut_bottom = np.zeros(pieces.sum(), np.int64), np.full(pieces.sum(), height, np.int64)
    cut_top[begin], cut_bottom[begin + pieces - 1] = top, bottom
    return np.repeat(column - begin, pieces) + np.arange(len(cut_top)), cut_top, cut_bottom
