"""Whether a device ran out of memory: it says so in several ways."""

from __future__ import annotations

import torch

_SAID = ("out of memory", "ALLOC_FAILED", "Failed to allocate memory")


def out_of_memory(error: RuntimeError) -> bool:
    """True of torch's own error, and of those of drivers and libraries that say so in words only."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(said in str(error) for said in _SAID)
