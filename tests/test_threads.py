"""The threads of a unit: order, what runs where, and errors."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from fastsam_batch.threads import InThisThread, each_within, in_order, threads_for


@pytest.mark.parametrize(("device", "workers"), [("cpu", 1), ("cpu", 3), ("cuda", 1), ("cuda", 3)])
def test_results_keep_their_order_and_few_are_begun_ahead(device, workers):
    begun = []

    def slow(number):
        begun.append(number)
        time.sleep(0.002 if number % 3 else 0.01)
        return number

    with threads_for(device, workers) as threads:
        for taken, number in enumerate(in_order(threads.host, slow, range(40), threads.ahead)):
            assert number == taken
            assert len(begun) <= taken + threads.ahead
    assert sorted(begun) == list(range(40))


def test_a_gpu_has_one_thread_and_a_cpu_its_workers():
    here = threading.get_ident()
    with threads_for("cuda", 3) as threads:
        device = {threads.device.submit(threading.get_ident).result() for _ in range(20)}
        host = {threads.host.submit(threading.get_ident).result() for _ in range(20)}
        assert len(device) == 1 and not device & host and here not in device | host
    with threads_for("cpu", 3) as threads:
        assert threads.host.submit(threading.get_ident).result() == here
        assert threads.device.submit(threading.get_ident).result() != here
    with threads_for("cpu", 1) as threads:
        assert threads.device.submit(threading.get_ident).result() == here


def test_a_gpu_s_thread_outlives_a_unit_and_begins_the_next_with_nothing_to_do():
    ended = []
    with ThreadPoolExecutor(1) as of_device:
        seen = set()
        for number in range(3):
            with threads_for("cuda", 2, of_device) as threads:
                seen.add(threads.device.submit(threading.get_ident).result())
                threads.device.submit(lambda: (time.sleep(0.02), ended.append(1)))
            assert len(ended) == number + 1
        assert len(seen) == 1


def test_a_guard_stands_around_the_waiting_alone():
    guarded, seen = [], []

    @contextmanager
    def guard():
        guarded.append(True)
        yield
        guarded.pop()

    def items():
        for number in range(3):
            seen.append(len(guarded))
            yield number

    for number in each_within(guard, items()):
        assert not guarded and number == len(seen) - 1
    assert seen == [1, 1, 1] and not guarded


@pytest.mark.parametrize(("device", "workers"), [("cpu", 1), ("cpu", 2), ("cuda", 2)])
def test_an_error_comes_where_its_result_is_asked_for(device, workers):
    with threads_for(device, workers) as threads:
        future = threads.device.submit(lambda: 1 // 0)
        results = in_order(threads.host, lambda number: 1 // number, [1, 0], threads.ahead)
        with pytest.raises(ZeroDivisionError):
            future.result()
        with pytest.raises(ZeroDivisionError):
            list(results)


def test_this_thread_ends_for_an_interrupt():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InThisThread().submit(interrupted)
