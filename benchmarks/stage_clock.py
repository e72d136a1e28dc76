"""CPU seconds by stage, taken from outside: functions of the package or of a library are wrapped while it runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any


class StageClock:
    """`seconds` by stage, each thread's own CPU time; a stage inside another is taken off the outer one."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._inner = threading.local()

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        outer = getattr(self._inner, "seconds", 0.0)
        self._inner.seconds = 0.0
        began = time.thread_time()
        try:
            yield
        finally:
            whole = time.thread_time() - began
            with self._lock:
                self.seconds[stage] += whole - self._inner.seconds
            self._inner.seconds = outer + whole

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted under `stage`."""

        def inner(*arguments: Any, **named: Any) -> Any:
            with self(stage):
                return function(*arguments, **named)

        return inner

    @contextlib.contextmanager
    def watching(self, *places: tuple[Any, str, str]) -> Iterator[None]:
        """Counts the functions at (owner, attribute, stage) while the block runs."""
        with contextlib.ExitStack() as stack:
            for owner, attribute, stage in places:
                stack.enter_context(replaced(owner, attribute, self.timed(stage, getattr(owner, attribute))))
            yield


@contextlib.contextmanager
def replaced(owner: Any, attribute: str, value: Any) -> Iterator[None]:
    """Another value for an attribute while the block runs."""
    own = vars(owner).get(attribute) if hasattr(owner, "__dict__") else None
    before = getattr(owner, attribute)
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, attribute)  # what the class has shows again
        else:
            setattr(owner, attribute, before)
