"""A decoder that stands for a device: each image takes a fixed time, one after the other in a process, and no core.

benchmarks/scaling.py names it in FASTSAM_BATCH_DECODER.
"""

from __future__ import annotations

import os
import threading
import time

import numpy as np
from numpy.typing import NDArray

SECONDS = "BENCHMARK_SECONDS_AN_IMAGE"
_device = threading.Lock()


def decode(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """A small grey image, after the time that the environment names."""
    with _device:
        time.sleep(float(os.environ[SECONDS]))
    return np.full((32, 32, 3), 128, np.uint8)
