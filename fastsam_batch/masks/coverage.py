"""How much of each cell of a grid a mask covers, exactly, from its runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.rle import Rle
from fastsam_batch.masks.runs import by_column, runs_of


def box_coverage(rle: Rle, box_xywh: tuple[int, int, int, int], grid_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Covered shares in [0, 1], float32 `grid_hw`, of the cells that divide a box evenly.

    The box (x, y, width, height) in whole pixels of the image holds all of the mask: its tight box, or the image.
    `grid_hw` is (rows, columns); cells may be smaller than pixels. Takes time with the runs and the cells, not with the
    pixels. Raises ValueError as `foreground_runs`.
    """
    x, y, width, height = box_xywh
    rows, columns = grid_hw
    if columns > width:
        return _divided(box_coverage(rle, box_xywh, (rows, width)), columns)
    column, top, bottom = by_column(runs_of(rle), rle.size[0])
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
    line = np.concatenate([first, first]) * (rows + 2) + cell
    step, later = sign * (1 - rest), sign * rest
    here = np.concatenate([in_first, in_first])
    places = np.concatenate([line, line + 1, line + rows + 2, line + rows + 3])
    steps = np.concatenate([step * here, later * here, step * (1 - here), later * (1 - here)])
    changes = np.bincount(places, steps, minlength=(columns + 1) * (rows + 2))
    shares = changes.cumsum().reshape(-1, rows + 2)[:columns, :rows].T.astype(np.float32, order="C")
    return np.clip(shares, 0, 1, out=shares)


def _divided(shares: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """Covered shares float32 [rows, columns] of those of columns of pixels [rows, width], fewer than `columns`."""
    width = shares.shape[1]
    borders, pixels = np.arange(columns + 1) * (width / columns), np.arange(width)[:, None]
    overlap = np.minimum(borders[1:], pixels + 1) - np.maximum(borders[:-1], pixels)
    mean = shares @ (np.maximum(overlap, 0) * (columns / width))
    return np.asarray(np.clip(mean, 0, 1), np.float32)
