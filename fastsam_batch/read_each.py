"""Many small reads: in turn from a disk, side by side from a store that lets each one wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

READERS = 32
_HELD = 512  # results at most that wait to be taken
_LONG = 250e-6  # seconds of a read that waits; one of a local disk takes a fifth
_PATIENCE = 20e-3  # seconds in such reads before others begin beside them


def read_each(read: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What `read` gives for each item, in order; READERS at once as soon as reads turn out to take long.

    Threads that read what is at hand only wait for Python's lock, and for being woken: 16 of them take five times
    as long as one.
    """
    rest = iter(items)
    waited = spent = 0.0
    for item in rest:
        began = time.perf_counter()
        result = read(item)
        took = time.perf_counter() - began
        yield result
        spent += took
        waited += took if took > _LONG else 0
        if waited > max(_PATIENCE, spent / 2):
            break
    with ThreadPoolExecutor(READERS) as pool:
        while some := list(islice(rest, _HELD)):
            yield from pool.map(read, some)
