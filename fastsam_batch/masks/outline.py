"""Outlines of masks: closed paths along pixel edges, found from runs without a pixel being made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.runs import Runs, by_column


@dataclass(frozen=True)
class Part:
    """A connected piece of a mask (8-neighbourhood) as loops of pixel corners, int64 [k, 2] as (x, y), k even.

    The pixel in column c and row r lies between the corners (c, r) and (c + 1, r + 1). Loops alternate vertical
    and horizontal edges, the first one vertical, with the mask on the right hand: outer loops run clockwise as
    seen on a screen, holes counter-clockwise. The last vertex joins the first.
    """

    outer: NDArray[np.int64]
    holes: tuple[NDArray[np.int64], ...]


def outline(mask: Runs, height: int) -> list[Part]:
    """The parts of a mask in an image so high, by their first pixel down the columns.

    Every run of a column has a top and a bottom edge. Where two columns meet, the ends of these edges, sorted,
    are the borders of what one column covers and the other does not, so that consecutive ones belong together.
    """
    if not len(mask):
        return []
    column, top, bottom = by_column(mask, height)
    follower = _followers(column, top, bottom, height)
    order, bounds = _cycles(follower)
    loop_of_edge = np.empty(len(order), np.int64)
    loop_of_edge[order] = np.repeat(np.arange(len(bounds)), np.diff(bounds, prepend=0))
    loops = _corners(order, bounds, column, np.stack([top, bottom], 1).reshape(-1), follower)

    outer = [area_of(loop) > 0 for loop in loops]
    holes: dict[int, list[NDArray[np.int64]]] = {index: [] for index, is_outer in enumerate(outer) if is_outer}
    owner = {index: index for index in holes}
    starts = column * height + top
    lefts = [(int(loop[:, 0].min()), index) for index, loop in enumerate(loops) if not outer[index]]
    for left, index in sorted(lefts):
        # The run to the left of a hole is of its part, and so is the loop above the run; where that is a hole,
        # it begins further left and its owner is known.
        row = int(loops[index][loops[index][:, 0] == left, 1].min())
        beside = int(np.searchsorted(starts, (left - 1) * height + row, side="right")) - 1
        owner[index] = owner[int(loop_of_edge[2 * beside])]
        holes[owner[index]].append(loops[index])
    return [Part(loops[index], tuple(inner)) for index, inner in holes.items()]


def area_of(loop: NDArray[np.int64] | NDArray[np.float64]) -> float:
    """Signed area of a closed path [k, 2] of (x, y), y down: positive where it runs clockwise on a screen."""
    x, y = loop[:, 0], loop[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def _followers(
    column: NDArray[np.int64], top: NDArray[np.int64], bottom: NDArray[np.int64], height: int
) -> NDArray[np.int64]:
    """The edge that follows each edge along its loop; edge 2i is the top of run i, run through rightwards, and
    2i + 1 its bottom, run through leftwards.
    """
    runs = np.arange(len(column))
    edge = np.concatenate([2 * runs, 2 * runs + 1] * 2)
    is_bottom = edge & 1
    x = np.concatenate([column + 1, column + 1, column, column])
    y = np.concatenate([top, bottom, top, bottom])
    arrives = np.concatenate([runs >= 0, runs < 0, runs < 0, runs >= 0])
    # Where runs touch at a corner only, tops go first: the two are one part.
    pairs = np.argsort((x * (height + 1) + y) * 2 + is_bottom, kind="stable").reshape(-1, 2)
    first_arrives = arrives[pairs[:, 0]]
    follower = np.empty(2 * len(column), np.int64)
    follower[edge[np.where(first_arrives, pairs[:, 0], pairs[:, 1])]] = edge[
        np.where(first_arrives, pairs[:, 1], pairs[:, 0])
    ]
    return follower


def _cycles(follower: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All edges, cycle after cycle, and where each cycle ends."""
    after = follower.tolist()
    order: list[int] = []
    bounds: list[int] = []
    add = order.append
    for first in range(0, len(after), 2):  # a closed path has a top
        edge = first
        while (following := after[edge]) >= 0:
            add(edge)
            after[edge] = -1  # been here
            edge = following
        if order and (not bounds or len(order) > bounds[-1]):
            bounds.append(len(order))
    return np.array(order), np.array(bounds)


def _corners(
    order: NDArray[np.int64],
    bounds: NDArray[np.int64],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
    follower: NDArray[np.int64],
) -> list[NDArray[np.int64]]:
    """The corners of each cycle: the ends of the vertical edges between its horizontal ones."""
    x = column[order >> 1] + 1 - (order & 1)  # where an edge arrives
    before, after = row[order], row[follower[order]]
    turns = np.flatnonzero(before != after)
    corners = np.stack([x[turns], before[turns], x[turns], after[turns]], 1).reshape(-1, 2)
    ends = np.searchsorted(turns, bounds)
    return np.split(corners, 2 * ends[:-1])
