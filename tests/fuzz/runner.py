"""`make fuzz`: damaged inputs against everything that reads them, in processes that may die or hang.

cd tests && python -m fuzz --minutes 10 --seed 1
cd tests && python -m fuzz --target images --seed 1 --case 1234      one case again, in this process
"""

from __future__ import annotations

import argparse
import collections
import importlib
import json
import multiprocessing
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from typing import Any

HANG_S = 60
SLICE_S = 20  # of each target in turn
MEMORY = 4 * 2**30  # of one process: a case that asks for more fails with MemoryError


def generator_of(target: str, seed: int, case: int) -> random.Random:
    """The same case for the same target, seed and number, on any machine."""
    return random.Random(f"{target}/{seed}/{case}")


def find_target(name: str) -> Callable[[random.Random], None]:
    """A target by its name in fuzz.targets, or any function as `module:name`."""
    module, _, function = name.rpartition(":")
    if module:
        found: Callable[[random.Random], None] = getattr(importlib.import_module(module), function)
        return found
    from fuzz.targets import TARGETS

    return TARGETS[name]


def work(target: str, seed: int, first: int, seconds: float, at: Synchronized[int], faults: Any) -> None:
    """Cases from `first` on for a while; the number of the one in work is in `at`."""
    check = find_target(target)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    end = time.monotonic() + seconds
    case = first
    while time.monotonic() < end:
        at.value = case
        try:
            check(generator_of(target, seed, case))
        except Exception:  # noqa: BLE001 - every exception is a finding
            faults.put((case, traceback.format_exc()))
        case += 1
    at.value = case


def run_slice(
    target: str, seed: int, first: int, seconds: float, hang: float = HANG_S
) -> tuple[int, list[tuple[int, str]]]:
    """The number of the next case, and what was found: (case, what happened)."""
    context = multiprocessing.get_context("spawn")
    at, faults = context.Value("q", first), context.SimpleQueue()
    process = context.Process(target=work, args=(target, seed, first, seconds, at, faults))
    process.start()
    found, seen, since = [], -1, time.monotonic()
    while process.is_alive():
        process.join(0.5)
        while not faults.empty():
            found.append(faults.get())
        if at.value != seen:
            seen, since = at.value, time.monotonic()
        elif time.monotonic() - since > hang + HANG_S * (seen == first):  # the first one waits for imports
            process.kill()
            process.join()
            return seen + 1, [*found, (seen, f"hung for {hang:.0f} s")]
    while not faults.empty():
        found.append(faults.get())
    if process.exitcode:
        return at.value + 1, [*found, (at.value, f"ended its process with status {process.exitcode}")]
    return at.value, found


def _all_targets() -> list[str]:
    from fuzz.targets import TARGETS

    return list(TARGETS)


def main() -> int:
    """Exit 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", action="append", help="one of the targets; default: all in turn")
    parser.add_argument("--case", type=int, help="run this case of one target alone, in this process")
    options = parser.parse_args()
    targets = options.target or _all_targets()
    if options.case is not None:
        find_target(targets[0])(generator_of(targets[0], options.seed, options.case))
        return 0
    following = dict.fromkeys(targets, 0)
    findings: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
    end = time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        for target in targets:
            seconds = min(SLICE_S, end - time.monotonic())
            if seconds <= 0:
                break
            following[target], found = run_slice(target, options.seed, following[target], seconds)
            findings[target] += found
            for case, what in found:
                print(f"{target} --seed {options.seed} --case {case}: {what.strip()}", file=sys.stderr, flush=True)
    found = {target: [case for case, _ in cases] for target, cases in findings.items() if cases}
    print(json.dumps({"seed": options.seed, "cases": following, "findings": found}))
    return 1 if found else 0
