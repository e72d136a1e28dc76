"""The decoder in use: `images.decode_image`, or the one that FASTSAM_BATCH_DECODER names.

The variable, `module:function`, lets the tests decode as a broken library would. It is no part of a corpus's
fingerprint and no option: a decoder that changes pixels belongs into images.py.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.images import decode_image

VARIABLE = "FASTSAM_BATCH_DECODER"
Decoder = Callable[[bytes, int], NDArray[np.uint8]]


def decoder() -> Decoder:
    """Encoded bytes and the pixels allowed to uint8 [height, width, 3]; raises ImageError."""
    module, _, name = os.environ.get(VARIABLE, "").partition(":")
    if not module:
        return decode_image
    found: Decoder = getattr(importlib.import_module(module), name)
    return found
