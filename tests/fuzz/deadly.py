"""A target that must be found out: some of its cases raise, some end the process, one hangs."""

from __future__ import annotations

import os
import random
import time


def deadly(generator: random.Random) -> None:
    """One case in three each way, by the generator; between cases a moment, so that few run."""
    what = generator.randrange(3)
    time.sleep(0.05)
    if what == 0:
        raise KeyError("a finding")
    if what == 1:
        os._exit(7)


def hangs(generator: random.Random) -> None:
    """Never ends."""
    time.sleep(10_000)


def quiet(generator: random.Random) -> None:
    """Finds nothing."""
    time.sleep(0.01)
