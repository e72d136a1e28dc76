"""A decoder with the faults of broken libraries, for FASTSAM_BATCH_DECODER: what an image's bytes ask for happens."""

from __future__ import annotations

import os
import signal
import time

from fastsam_batch.images import decode_image

CRASH, HANG, RAISE = b"poison: crash", b"poison: hang", b"poison: raise"


def decode(data, max_pixels):
    """As decode_image, but some bytes kill, stop or break whoever decodes them."""
    if data == CRASH:
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == HANG:
        time.sleep(10_000)
    if data == RAISE:
        raise RuntimeError("this decoder has a bug")
    return decode_image(data, max_pixels)
