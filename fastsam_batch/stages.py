"""What a unit's time goes into."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Iterator


class Stages:
    """Seconds by stage, summed over threads."""

    def __init__(self) -> None:
        self.seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            with self._lock:
                self.seconds[name] += seconds
