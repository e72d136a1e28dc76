"""A few schedules of `python -m tests.chaos`, as many as begin in time; on a Ray cluster where CHAOS asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos.harness import HUNG, Harness
from chaos.schedule import HEAD, Run, Schedule, Storm, Strike, make

ROOT = Path(__file__).parents[2]
ALONE = "CHAOS_IN_A_PROCESS_OF_ITS_OWN"
needs_weed = pytest.mark.skipif(
    shutil.which("weed", path=str(Path(sys.executable).parent)) is None,
    reason="no SeaweedFS: it is not built for this platform",
)
SECONDS = 25  # no schedule begins later
SHARDS = Schedule(
    -1, "shards", "s3", (Run((Strike("actor", 0.5, 0.1),), (Storm(0.2, 0.8, 0.05, ("503", "reset-after", "short")),)),)
)
TROUBLE = ("500", "503", "reset", "reset-after", "cut", "short")
# What must be shown first: tasks, actor, node and driver killed; a store in every kind of trouble; a full disk.
SHORT = (
    Schedule(-2, "tar", "s3", (Run((Strike("task", 0.3, 0), Strike("actor", 0.5, 0), Strike("task", 0.7, 0))),)),
    Schedule(-3, "folder", "s3", (Run((Strike("driver", 0.6, 0),), (Storm(0.2, 100, 0.1, TROUBLE),)),)),
    Schedule(-4, "parquet", "s3", (Run((Strike("node", 0.4, 0),), (Storm(0.5, 0.7, 0.3, ("stall",)),)),)),
    Schedule(-5, "tar", "local", (Run((Strike("disk", 0.6, 0),)),)),
)  # fmt: skip


@contextmanager
def _harness(ray: bool):
    # Ray's sockets lie below it, and their paths may have 107 bytes: pytest's own folders are too deep.
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        before = dict(os.environ)
        try:
            harness = Harness(Path(folder), ray=ray)
            yield harness.play
            harness.close()
        finally:
            os.environ.clear()
            os.environ.update(before)


@needs_weed
@pytest.mark.timeout(1200)
def test_what_fails_loses_doubles_and_changes_nothing():
    with _harness(ray=False) as play:
        _play(play, SHORT, SECONDS / 2)


@needs_weed
@pytest.mark.timeout(1800)
def test_what_fails_on_a_cluster_loses_doubles_and_changes_nothing(request):
    if ALONE not in os.environ:
        _in_a_process_of_its_own(request.node.nodeid)
        return
    more = (SHARDS, *map(make, range(100))) if "CHAOS" in os.environ else ()
    with _harness(ray=True) as play:
        _play(play, (*SHORT, *more), 20 * SECONDS if more else SECONDS)
        if more:
            outcome = play(HEAD)
            assert not outcome.wrong and outcome.struck == ("head",) and outcome.exits[0] not in (0, HUNG), outcome


def _in_a_process_of_its_own(test):
    """Ray's core reads a cluster's token when it is imported, once for all tests of a process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=ROOT, env=environment | {ALONE: "1"}, capture_output=True, text=True)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def _play(play, schedules, seconds):
    """The first schedule, and of the others as many as begin in time; all of what they aim at is struck."""
    began = time.monotonic()
    for schedule in schedules:
        outcome = play(schedule)
        assert not outcome.wrong, outcome
        if schedule in SHORT:
            strikes = sum(len(run.strikes) for run in schedule.runs)
            assert outcome.struck and (len(outcome.struck) == strikes or "driver" in outcome.struck), outcome
            assert outcome.exits[-1] == 0
        if time.monotonic() - began > seconds:
            break


def test_a_seed_is_a_schedule_for_ever():
    assert make(7) == make(7)
    assert len({make(seed) for seed in range(200)}) == 200
    targets = {strike.target for seed in range(200) for run in make(seed).runs for strike in run.strikes}
    kinds = {kind for seed in range(200) for run in make(seed).runs for storm in run.storms for kind in storm.kinds}
    assert targets == {"driver", "actor", "task", "node", "disk", "temporary"}
    assert kinds == {"500", "503", "reset", "reset-after", "stall", "cut", "short"}
