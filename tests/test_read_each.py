"""Small reads in turn or side by side."""

from __future__ import annotations

import threading
import time

import pytest

from fastsam_batch.read_each import READERS, read_each


def test_what_is_at_hand_is_read_in_this_thread() -> None:
    threads = list(read_each(lambda _: threading.current_thread(), range(500)))
    assert set(threads) == {threading.current_thread()} and len(threads) == 500


def test_what_waits_is_read_side_by_side_in_order() -> None:
    threads = set()

    def read(number: int) -> int:
        threads.add(threading.current_thread())
        time.sleep(0.01 if number % 3 else 0.02)
        return number

    began = time.perf_counter()
    assert list(read_each(read, range(200))) == list(range(200))
    assert 4 < len(threads) <= 1 + READERS
    assert time.perf_counter() - began < 1.5  # in turn 2.7 s


def test_a_disk_that_becomes_slow_gets_threads() -> None:
    threads = set()

    def read(number: int) -> None:
        threads.add(threading.current_thread())
        time.sleep(0.005 * (number > 100))

    assert len(list(read_each(read, range(200)))) == 200
    assert len(threads) > 1


@pytest.mark.parametrize("seconds", [0, 0.01])
def test_an_error_is_raised_where_it_belongs(seconds: float) -> None:
    def read(number: int) -> int:
        time.sleep(seconds)
        if number == 40:
            raise ValueError("the fortieth")
        return number

    found: list[int] = []
    with pytest.raises(ValueError, match="the fortieth"):
        found.extend(read_each(read, range(60)))
    assert found == list(range(40))
