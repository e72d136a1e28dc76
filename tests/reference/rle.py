"""A COCO run-length string read a character at a time, as pycocotools' `rleFrString` does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unpack_counts(text: str) -> NDArray[np.int64]:
    """Run lengths int64 [k] of a COCO string. Raises ValueError for a string that is not one."""
    counts: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits == 35:
            raise ValueError(f"not a COCO run-length string: {text!r}")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << bits
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = bits = 0
    if bits or not counts or min(counts) < 0:
        raise ValueError(f"not a COCO run-length string: {text!r}")
    return np.array(counts, np.int64)
