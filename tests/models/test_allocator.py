"""Freed memory stays with a worker's thread: what it takes again comes without a page fault."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CHURN = """
import resource, sys, threading
import numpy as np
from fastsam_batch.models.allocator import keep_freed_memory

assert sys.argv[1] == "default" or keep_freed_memory()

def layers():
    features = [np.ones(4 << 20, np.uint8) for _ in range(10)]
    del features

def work():
    layers()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(10):
        layers()
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", CHURN, how], check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_thread_takes_what_it_freed_without_faults() -> None:
    assert faults("kept") < 200 < faults("default")
