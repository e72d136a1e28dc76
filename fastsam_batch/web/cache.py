"""A cache bounded by bytes that makes each value once, however many threads ask for it at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

V = TypeVar("V")


class BoundedCache(Generic[V]):
    """Values by key, the least recently used dropped once their sizes add up to more than `max_bytes`.

    The value made last stays, however large it is: it is asked for again at once.

    `size_of` gives a value's bytes. Safe to use from many threads.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[V], int]) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._size_of = size_of
        self._values: OrderedDict[Hashable, Future[V]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made by the first who asks while others wait; what `make` raises is not kept."""
        with self._lock:
            future = self._values.get(key)
            if future is not None:
                self._values.move_to_end(key)
            else:
                ours = self._values[key] = Future()
        if future is not None:
            return future.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._values[key]
            ours.set_exception(error)
            raise
        ours.set_result(value)
        with self._lock:
            self.bytes += self._size_of(value)
            self._drop(key)
        return value

    def keep(self, key: Hashable, value: V) -> None:
        """Have the value that is made already; one that the key has stays."""
        self.get(key, lambda: value)

    def _drop(self, newest: Hashable) -> None:
        while self.bytes > self.max_bytes:
            oldest = next((key for key, future in self._values.items() if key != newest and future.done()), None)
            if oldest is None:  # what is still being made has no size yet
                return
            self.bytes -= self._size_of(self._values.pop(oldest).result())
