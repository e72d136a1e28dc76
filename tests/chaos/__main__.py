"""`python -m tests.chaos --seed 7` repeats one schedule; `--schedules 200` plays them one after the other."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """0 where every schedule ended with the undisturbed corpus."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one schedule")
    parser.add_argument("--head", action="store_true", help="kill the cluster's head, then nothing")
    parser.add_argument("--first", type=int, default=0, help="the first of many seeds")
    parser.add_argument("--schedules", type=int, default=200, help="how many")
    parser.add_argument("--seconds", type=float, help="begin no schedule after so long")
    parser.add_argument("--without-ray", action="store_true", help="the same stages in one process, for speed")
    parser.add_argument("--hung-after", type=float, default=300, help="seconds; more on a machine that is shared")
    parser.add_argument("--table", type=Path, help="append a row of a Markdown table for each to this file")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))  # servers.py
    from .harness import Harness
    from .schedule import HEAD, make

    seeds = range(arguments.first, arguments.first + arguments.schedules)
    schedules = [HEAD] if arguments.head else map(make, seeds if arguments.seed is None else [arguments.seed])
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"logs of what goes wrong stay in {folder}", flush=True)
    harness = Harness(folder, arguments.hung_after, not arguments.without_ray)
    began, bad = time.monotonic(), 0
    try:
        for schedule in schedules:
            if arguments.seconds and time.monotonic() - began > arguments.seconds:
                break
            outcome = harness.play(schedule)
            bad += bool(outcome.wrong)
            line = row(outcome)
            print(line, flush=True)
            if arguments.table:
                with arguments.table.open("a") as file:
                    file.write(line + "\n")
    finally:
        harness.close()
    return 1 if bad else 0


def row(outcome) -> str:
    """A schedule as a row of docs/chaos.md."""
    schedule = outcome.schedule
    exits = " ".join(map(str, outcome.exits))
    result = "; ".join(outcome.wrong) or "equal"
    where = f"{schedule.input} to {schedule.output}"
    hit = ", ".join(outcome.struck) or "none"
    cells = (schedule.seed, where, schedule.describe(), hit, outcome.faults, exits, result, f"{outcome.seconds:.0f}")
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.exit(main())
