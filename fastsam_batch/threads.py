"""The threads that a unit is worked on with, and how many cores there are for them."""

from __future__ import annotations

import collections
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class InThisThread(Executor):
    """Runs what is submitted at once, where it is submitted."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        future: Future[R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as every executor: told where the result is asked for
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class Threads:
    """`device` runs the networks, `host` what lies between them, `ahead` tasks of it before the one that is waited for.

    `workers` is how many images they take side by side.
    """

    device: Executor
    host: Executor
    ahead: int
    workers: int


@contextlib.contextmanager
def threads_for(device: str, workers: int, of_device: Executor | None = None) -> Iterator[Threads]:
    """Threads for models on a device, `cpu` or `cuda`.

    On a CPU each worker takes an image through network and masks; small networks gain more from that than from
    threads inside each of their layers. A GPU has one thread that keeps it at work, while the workers make masks and
    crops: `of_device` where that is given, an executor of one thread, since cuDNN plans its convolutions anew for each.
    """
    inline = InThisThread()
    with contextlib.ExitStack() as stack:
        if device != "cpu":
            alone = of_device or stack.enter_context(ThreadPoolExecutor(1))
            # What a unit that failed has left there ends before the next begins.
            stack.callback(lambda: alone.submit(_nothing).result())
            yield Threads(alone, stack.enter_context(ThreadPoolExecutor(workers)), 2 * workers, workers)
        elif workers > 1:
            yield Threads(stack.enter_context(ThreadPoolExecutor(workers)), inline, 1, workers)
        else:
            yield Threads(inline, inline, 1, 1)


def _nothing() -> None:
    pass


def in_order(executor: Executor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """The function of each item, in order, at most `ahead` of them begun before the first is taken."""
    begun: collections.deque[Future[R]] = collections.deque()
    for item in items:
        begun.append(executor.submit(function, item))
        if len(begun) >= ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def each_within(guard: Callable[[], AbstractContextManager[None]], items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, none of them None, each waited for within a guard of its own."""
    while True:
        with guard():
            item = next(items, None)
        if item is None:
            return
        yield item
