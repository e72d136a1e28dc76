"""What a benchmark ran on, and how fast that is: the machine's name, matrix rate and memory bandwidth.

torch is imported where it is used: a child's peak memory is never below that of the process which started it, and a
benchmark that measures its children's may want no more than the name.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np


def name() -> str:
    """The processor with its cores, and the GPU where there is one."""
    import torch

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor}, {os.cpu_count()} cores, {platform.machine()}{gpu}"


def short_name() -> str:
    """For file names: as in x86_64-2cpu."""
    return f"{platform.machine()}-{os.cpu_count()}cpu"


def matrix_rate() -> float:
    """Operations a second of one thread in a float32 matrix product, a multiplication and an addition being two."""
    import torch

    side = 1024
    a, b, out = (torch.rand(side, side) for _ in range(3))
    return 2 * side**3 / min(_seconds(lambda: torch.mm(a, b, out=out)) for _ in range(8))


def memory_bandwidth() -> float:
    """Bytes a second that one thread moves while copying, read and written ones both counted."""
    source = np.ones(256 * 2**20, np.uint8)
    target = np.zeros_like(source)
    return 2 * source.nbytes / min(_seconds(lambda: np.copyto(target, source)) for _ in range(5))


def _seconds(work) -> float:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        began = time.thread_time()
        work()
        return time.thread_time() - began
    finally:
        torch.set_num_threads(threads)
