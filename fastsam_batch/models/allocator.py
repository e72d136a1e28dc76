"""How the C library keeps the memory that networks on a CPU take and free for every image."""

from __future__ import annotations

import ctypes

# glibc, malloc/malloc.h. A mapping of its own for every larger block, and what may lie free, in bytes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 32 << 20
_FREE_AT_MOST = 256 << 20


def keep_freed_memory() -> bool:
    """Have glibc keep freed blocks of up to 32 MiB, at most 256 MiB a heap, for the next image of this process.

    By default it hands them back after each layer, and a worker's thread spends a tenth of its time on pages that
    the system gives anew. False where the C library has no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, _FREE_AT_MOST))
