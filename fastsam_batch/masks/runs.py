"""Masks as sorted runs of pixels: union, difference, area and membership without a pixel being made.

A pixel's position is column-major, `x * height + y`, as in COCO RLE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.rle import Rle, foreground_runs_of, pack_counts


@dataclass(frozen=True, eq=False)
class Runs:
    """A mask's runs, `starts` and `ends` (exclusive) int64 [r] each, as positions.

    None is empty and between any two lies a gap: equal masks have equal runs.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int((self.ends - self.starts).sum())

    def contains(self, position: int) -> bool:
        """True where the mask has the pixel at a position."""
        run = int(np.searchsorted(self.starts, position, side="right")) - 1
        return run >= 0 and position < int(self.ends[run])


EMPTY = Runs(np.zeros(0, np.int64), np.zeros(0, np.int64))


def runs_of(rle: Rle) -> Runs:
    """The runs of an RLE. Raises ValueError for a broken one, as `foreground_runs`."""
    return all_runs([rle.counts], rle.size)[0]


def all_runs(counts: Sequence[str], size_hw: tuple[int, int]) -> list[Runs]:
    """The runs of masks of one image, of their COCO strings. Raises ValueError where one is broken."""
    return [_proper(*runs) for runs in foreground_runs_of(counts, size_hw)] if counts else []


def _proper(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Runs:
    if (starts < ends).all() and (ends[:-1] < starts[1:]).all():
        return Runs(starts, ends)
    filled = starts < ends  # COCO allows runs of no pixels anywhere, which split a run or stand for none
    return union([Runs(starts[filled], ends[filled])])


def rle_of(runs: Runs, size_hw: tuple[int, int]) -> Rle:
    """The COCO RLE of runs in an image of `size_hw`: the string that pycocotools writes."""
    edges = np.stack([runs.starts, runs.ends], 1).reshape(-1)
    counts = np.diff(edges, prepend=0, append=size_hw[0] * size_hw[1])
    if len(edges) and counts[-1] == 0:
        counts = counts[:-1]
    return Rle(size_hw, pack_counts(counts, np.array([len(counts)]))[0])


def union(masks: Sequence[Runs]) -> Runs:
    """The pixels of any of the masks."""
    if not masks:
        return EMPTY
    starts = _sorted([mask.starts for mask in masks])
    ends = _sorted([mask.ends for mask in masks])
    # Before the i-th start i runs have begun. It opens a gap's end where all of those have ended too.
    apart = ends[:-1] < starts[1:]
    edge = np.ones(min(len(starts), 1), np.bool_)
    return Runs(starts[np.concatenate([edge, apart])], ends[np.concatenate([apart, edge])])


def _sorted(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """All positions in order, of parts that are in order each: NumPy's stable sort merges such parts."""
    return np.asarray(np.sort(np.concatenate(parts), kind="stable"), np.int64)


def complement(mask: Runs, pixels: int) -> Runs:
    """The pixels of an image of so many pixels that are not in the mask."""
    starts, ends = np.append(0, mask.ends), np.append(mask.starts, pixels)
    filled = starts < ends
    return Runs(starts[filled], ends[filled])


def difference(mask: Runs, other: Runs, pixels: int) -> Runs:
    """The mask's pixels that are not in the other, in an image of so many pixels."""
    return complement(union([complement(mask, pixels), other]), pixels)


def iou(mask: Runs, other: Runs) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    both = union([mask, other]).area
    return (mask.area + other.area - both) / both if both else 0.0


def by_column(mask: Runs, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """A mask's runs cut where columns end, in an image so high: column, first row and end row (exclusive) of each
    piece, int64 [pieces] each, down the columns from the left. Pieces of one run touch the borders they were cut at.
    """
    column, last = mask.starts // height, (mask.ends - 1) // height
    top, bottom = mask.starts - column * height, mask.ends - last * height
    pieces = last - column + 1
    if (pieces == 1).all():
        return column, top, bottom
    begin = np.cumsum(pieces) - pieces
    cut_top, cut_bottom = np.zeros(pieces.sum(), np.int64), np.full(pieces.sum(), height, np.int64)
    cut_top[begin], cut_bottom[begin + pieces - 1] = top, bottom
    return np.repeat(column - begin, pieces) + np.arange(len(cut_top)), cut_top, cut_bottom


def area_in_box(mask: Runs, box_xyxy: tuple[int, int, int, int], height: int) -> int:
    """Pixels of the mask inside a box of whole pixels (x1, y1, x2, y2; ends exclusive) of an image so high."""
    left, top, right, bottom = box_xyxy
    first = np.searchsorted(mask.ends, left * height, side="right")
    end = np.searchsorted(mask.starts, right * height, side="left")
    starts = np.maximum(mask.starts[first:end], left * height)
    ends = np.minimum(mask.ends[first:end], right * height)
    return int((_in_rows(ends, top, bottom, height) - _in_rows(starts, top, bottom, height)).sum())


def _in_rows(positions: NDArray[np.int64], top: int, bottom: int, height: int) -> NDArray[np.int64]:
    """How many pixels before each position lie in the rows [top, bottom) of the image."""
    column, row = np.divmod(positions, height)
    return np.asarray(column * (bottom - top) + np.clip(row - top, 0, bottom - top), np.int64)


def runs_of_pixels(pixels: NDArray[np.bool_], left: int, top: int, height: int) -> Runs:
    """The runs of a part of a mask, bool [h, w], whose corner lies at (left, top) of an image so high."""
    # A border of background above and below keeps edges within their columns.
    columns = np.pad(pixels.T, ((0, 0), (1, 1))).reshape(-1)
    column, row = np.divmod(np.flatnonzero(columns[1:] != columns[:-1]), pixels.shape[0] + 2)
    positions = (left + column) * height + top + row
    # In each column edges come in pairs; a run that goes on into the next column is one run.
    return union([Runs(positions[0::2], positions[1::2])])
