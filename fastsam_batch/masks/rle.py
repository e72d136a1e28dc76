"""COCO run-length encoding: column-major runs, the packed string, and masks cut out of it.

Format: pycocotools `common/maskApi.c`. Runs alternate background and foreground, starting with
background, down the columns from the left; each count after the third is stored as the difference
to the count two before it, in groups of five bits, lowest first, as characters from '0'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP_BITS = 5
MAX_GROUPS = 7  # 35 bits: any difference of two 32-bit counts


@dataclass(frozen=True)
class Rle:
    """One mask: `size` is (height, width) in pixels, `counts` the packed COCO string."""

    size: tuple[int, int]
    counts: str

    @classmethod
    def from_coco(cls, stored: Mapping[str, Any]) -> Rle:
        """Of `to_coco`'s dict, which is also the `rle` of a row of masks."""
        height, width = stored["size"]
        return cls((height, width), stored["counts"])

    def to_coco(self) -> dict[str, object]:
        """The dict that pycocotools takes."""
        return {"size": list(self.size), "counts": self.counts}


def pack_counts(counts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[str]:
    """COCO strings of many masks at once.

    `counts` int64 [sum(lengths)] holds the masks' run lengths one after the other, `lengths` int64 [n]
    how many each mask has. Returns n strings.
    """
    if len(lengths) == 0:
        return []
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    place = np.arange(len(counts)) - first
    values = counts.copy()
    later = np.flatnonzero(place > 2)
    values[later] -= counts[later - 2]

    groups = np.ones(len(values), np.int64)
    for width in range(1, MAX_GROUPS):
        half = 1 << (GROUP_BITS * width - 1)
        wider = (values < -half) | (values >= half)
        if not wider.any():
            break
        groups += wider
    ends = np.cumsum(groups)
    digit = np.arange(ends[-1]) - np.repeat(ends - groups, groups)
    spread = np.repeat(values, groups) >> (GROUP_BITS * digit)
    more = digit < np.repeat(groups, groups) - 1
    text = ((spread & 31) | (more << GROUP_BITS)) + 48
    packed = text.astype(np.uint8).tobytes().decode("ascii")
    bounds = np.concatenate([[0], ends[np.cumsum(lengths) - 1]])
    return [packed[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def foreground_runs(rle: Rle) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends (exclusive) of the foreground runs, int64 [r] each, as column-major pixel indices.

    Raises ValueError where the counts do not add up to the size.
    """
    return foreground_runs_of([rle.counts], rle.size)[0]


def foreground_runs_of(
    texts: Sequence[str], size: tuple[int, int]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """As `foreground_runs` for COCO strings of masks of one size, all read in one pass."""
    runs = []
    for counts in _stored_counts(texts):
        background, foreground = _run_lengths(counts)
        pixels = int(background.sum() + foreground.sum())
        if pixels != size[0] * size[1]:
            raise ValueError(f"run lengths add up to {pixels}, not {size[0]} x {size[1]}")
        ends = np.cumsum(foreground)
        ends += np.cumsum(background[: len(foreground)])
        runs.append((ends - foreground, ends))
    return runs


def _run_lengths(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of background and foreground runs of a mask's stored counts: from the fourth on, each adds to the
    one two before it. Raises ValueError for a negative one.
    """
    foreground = np.cumsum(counts[1::2])
    background = counts[0::2].copy()
    np.cumsum(background[1:], out=background[1:])
    if background.min() < 0 or (len(foreground) and foreground.min() < 0):
        raise ValueError("not a COCO run-length string: a count is negative")
    return background, foreground


def _stored_counts(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """The counts of each string as they are stored. Raises ValueError for a string that is not one.

    A point on a large image waits for some hundred thousand characters of many strings: each step is one pass
    over narrow integers, every character taken as if it ended a count, with the two before it.
    """
    stops = np.cumsum([len(text) for text in texts])
    codes = np.frombuffer(b"00" + "".join(texts).encode(), np.uint8) - np.uint8(48)  # two that stand for 0
    if not all(texts) or len(codes) != stops[-1] + 2 or codes.max() > 63 or codes[stops + 1].max() > 31:
        raise ValueError("not a COCO run-length string")
    more, groups = codes >> GROUP_BITS, codes & 31
    two = more[1:-1]
    three = two & more[:-2]
    # From the highest group, which holds the sign, down; a count of fewer groups is left as it is.
    short = (groups[2:] ^ 16).astype(np.int16) - np.int16(16)
    for group, there in ((groups[1:-1], two), (groups[:-2], three)):
        short *= 1 + there * np.uint8(31)
        short += group * there
    ends = np.flatnonzero(more[2:] == 0)
    counts = short[ends].astype(np.int64)
    longer = np.flatnonzero((three & more[2:]).view(np.bool_))
    for place in np.unique(np.searchsorted(ends, longer)).tolist():
        counts[place] = _long_count(codes, int(ends[place]) + 2)
    return np.split(counts, np.searchsorted(ends, stops[:-1]))


def _long_count(codes: NDArray[np.uint8], end: int) -> int:
    """The count of several groups whose last is at `end`."""
    value = int(codes[end] ^ 16) - 16
    for place in range(end - 1, end - MAX_GROUPS, -1):
        if codes[place] < 32:
            return value
        value = value << GROUP_BITS | int(codes[place] & 31)
    if codes[end - MAX_GROUPS] > 31:
        raise ValueError("not a COCO run-length string: a count is too long")
    return value


def tight_box(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int) -> tuple[int, int, int, int]:
    """Tight box (x, y, width, height) in pixels of non-empty foreground runs of an image `height` high."""
    column_first, column_last = starts // height, (ends - 1) // height
    whole = column_first != column_last  # such a run passes the bottom of one column and the top of the next
    top = 0 if whole.any() else int((starts % height).min())
    bottom = height if whole.any() else int(((ends - 1) % height).max()) + 1
    left, right = int(column_first[0]), int(column_last[-1]) + 1
    return left, top, right - left, bottom - top


def decode_in_box(rle: Rle, box_xywh: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """The mask inside a box of whole pixels within the image, bool [height, width].

    Holds what it returns and the runs, never the image's pixels. Raises ValueError as `foreground_runs`.
    """
    x, y, width, height = box_xywh
    column, row = np.divmod(np.concatenate(foreground_runs(rle)), rle.size[0])
    column -= x
    within = (column >= 0) & (column < width)
    # Each edge turns the mask from the box's first pixel at or behind it on.
    place = np.clip(column, 0, width) * height + np.where(within, np.clip(row - y, 0, height), 0)
    lengths = np.diff(np.sort(place, kind="stable"), prepend=0, append=width * height)  # of two parts in order
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(inside.reshape(width, height).T)
