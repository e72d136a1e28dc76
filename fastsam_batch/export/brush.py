"""Label Studio's run-length code for brush masks.

Format: thi.ng/rle-pack, which Label Studio's editor and `label_studio_sdk.converter.brush` read: 32 bits number
of values, 5 bits word size - 1, four times 4 bits of field widths - 1; then blocks of one bit (1: a run), two
bits that choose a field width, the run's length - 1 in so many bits, and its value. Values are RGBA bytes, row by
row, all 0 or all 255.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.rle import Rle, decode_in_box
from fastsam_batch.masks.runs import runs_of_pixels

_CHANNELS = 4
_WIDTHS = np.array([3, 4, 8, 16])
_LONGEST = 1 << 16
_HEADER_BITS = 53


def brush_bytes(rle: Rle, bbox_xywh: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The code of a mask with its tight box, uint8 [n]."""
    height, width = rle.size
    lengths, values = _blocks(_row_runs(rle, bbox_xywh) * _CHANNELS)
    field = np.searchsorted(1 << _WIDTHS, lengths)
    bits = 3 + _WIDTHS[field] + 8
    codes = ((4 | field) << _WIDTHS[field] | (lengths - 1)) << 8 | values
    header = (height * width * _CHANNELS) << 21 | 7 << 16 | 2 << 12 | 3 << 8 | 7 << 4 | 15
    return _packed(np.append(header, codes), np.append(_HEADER_BITS, bits))


def _row_runs(rle: Rle, bbox_xywh: tuple[int, int, int, int]) -> NDArray[np.int64]:
    """Run lengths row by row, background first and in turns, int64 [k]."""
    x, y, *_ = bbox_xywh
    height, width = rle.size
    # Turned around its diagonal, an image's columns are its rows.
    runs = runs_of_pixels(decode_in_box(rle, bbox_xywh).T, y, x, width)
    edges = np.stack([runs.starts, runs.ends], 1).reshape(-1)
    return np.diff(edges, prepend=0, append=height * width)


def _blocks(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of at most 2^16 and their values, of run lengths in turns; runs of none are left out."""
    pieces = -(-lengths // _LONGEST)
    run = np.repeat(np.arange(len(lengths)), pieces)
    place = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return np.minimum(lengths[run] - place * _LONGEST, _LONGEST), (run & 1) * 255


def _packed(codes: NDArray[np.int64], bits: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Numbers one behind the other, highest bit first, each in its own number of bits."""
    ends = np.cumsum(bits)
    shift = np.repeat(ends, bits) - np.arange(ends[-1]) - 1
    return np.packbits((np.repeat(codes, bits) >> shift & 1).astype(np.uint8))
