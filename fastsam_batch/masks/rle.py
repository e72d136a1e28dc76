"""COCO run-length encoding: column-major runs, the packed string, and masks cut out of it.

Format: pycocotools `common/maskApi.c`. Runs alternate background and foreground, starting with
background, down the columns from the left; each count after the third is stored as the difference
to the count two before it, in groups of five bits, lowest first, as characters from '0'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GROUP_BITS = 5
_MAX_GROUPS = 7  # 35 bits: any difference of two 32-bit counts
_SIGNED = (np.arange(32, dtype=np.int64) ^ 16) - 16  # five bits as a signed number


@dataclass(frozen=True)
class Rle:
    """One mask: `size` is (height, width) in pixels, `counts` the packed COCO string."""

    size: tuple[int, int]
    counts: str

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
    for width in range(1, _MAX_GROUPS):
        half = 1 << (_GROUP_BITS * width - 1)
        wider = (values < -half) | (values >= half)
        if not wider.any():
            break
        groups += wider
    ends = np.cumsum(groups)
    digit = np.arange(ends[-1]) - np.repeat(ends - groups, groups)
    spread = np.repeat(values, groups) >> (_GROUP_BITS * digit)
    more = digit < np.repeat(groups, groups) - 1
    text = ((spread & 31) | (more << _GROUP_BITS)) + 48
    packed = text.astype(np.uint8).tobytes().decode("ascii")
    bounds = np.concatenate([[0], ends[np.cumsum(lengths) - 1]])
    return [packed[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def unpack_counts(text: str) -> NDArray[np.int64]:
    """Run lengths int64 [k] of a COCO string. Raises ValueError for a string that is not one."""
    codes = np.frombuffer(text.encode(), np.uint8) - np.uint8(48)
    if len(codes) == 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("not a COCO run-length string")
    ends = np.flatnonzero(codes < 32)
    widths = ends + 1
    widths[1:] -= ends[:-1] + 1
    widest = int(widths.max())
    if widest > _MAX_GROUPS:
        raise ValueError("not a COCO run-length string: a count is too long")
    # From the highest group, which holds the sign, down; few counts need a second one.
    values: NDArray[np.int64] = _SIGNED[codes[ends]]
    for width in range(1, widest):
        wider = np.flatnonzero(widths > width)
        values[wider] = (values[wider] << _GROUP_BITS) | (codes[ends[wider] - width] & 31)
    # From the fourth on, each count adds to the one two before it: two interleaved running sums.
    np.cumsum(values[1::2], out=values[1::2])
    np.cumsum(values[2::2], out=values[2::2])
    if values.min() < 0:
        raise ValueError("not a COCO run-length string: a count is negative")
    return values


def foreground_runs(rle: Rle) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends (exclusive) of the foreground runs, int64 [r] each, as column-major pixel indices.

    Raises ValueError where the counts do not add up to the size.
    """
    counts = unpack_counts(rle.counts)
    edges = np.cumsum(counts)
    if edges[-1] != rle.size[0] * rle.size[1]:
        raise ValueError(f"run lengths add up to {edges[-1]}, not {rle.size[0]} x {rle.size[1]}")
    starts, ends = edges[0:-1:2], edges[1::2]
    return starts, ends


def tight_box(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int) -> tuple[int, int, int, int]:
    """Tight box (x, y, width, height) in pixels of non-empty foreground runs of an image `height` high."""
    column_first, column_last = starts // height, (ends - 1) // height
    whole = column_first != column_last  # such a run passes the bottom of one column and the top of the next
    top = 0 if whole.any() else int((starts % height).min())
    bottom = height if whole.any() else int(((ends - 1) % height).max()) + 1
    left, right = int(column_first[0]), int(column_last[-1]) + 1
    return left, top, right - left, bottom - top


def decode_in_box(rle: Rle, box_xywh: tuple[int, int, int, int], step: int = 1) -> NDArray[np.bool_]:
    """The mask inside a box of whole pixels within the image, bool [ceil(height / step), ceil(width / step)].

    With `step` above 1, every step-th row and column from the middle of the first step. Holds what it
    returns and the runs, never the image's pixels. Raises ValueError as `foreground_runs`.
    """
    x, y, width, height = box_xywh
    rows, columns = -(-height // step), -(-width // step)
    column, row = np.divmod(np.concatenate(foreground_runs(rle)), rle.size[0])
    # Sampled columns and rows lie at first + step * i; the last may be held inside the box.
    first_x, first_y = x + min(step // 2, (width - 1) % step), y + min(step // 2, (height - 1) % step)
    place, beyond = np.divmod(column - first_x, step)
    sampled_row = np.where(beyond == 0, -((first_y - row) // step), 0)
    place += beyond != 0
    sample = np.clip(place, 0, columns) * rows + np.where(
        (place >= 0) & (place < columns), np.clip(sampled_row, 0, rows), 0
    )
    # Each edge turns the mask from the first sample at or behind it on.
    lengths = np.diff(np.sort(sample), prepend=0, append=columns * rows)
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(inside.reshape(columns, rows).T)
