"""A few schedules of `python -m tests.chaos`, as many as a minute holds; on a Ray cluster where CHAOS asks for it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

from chaos.harness import Harness
from chaos.schedule import Run, Schedule, Storm, Strike, make

SECONDS = 60
SHARDS = Schedule(
    -1, "shards", "s3", (Run((Strike("actor", 0.5, 0.1),), (Storm(0.2, 0.8, 0.05, ("503", "reset-after", "short")),)),)
)
SEEDS = (11, 12, 6, 7)


@pytest.fixture
def play(request):
    if shutil.which("weed", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("no SeaweedFS: it is not built for this platform")
    # Ray's sockets lie below it, and their paths may have 107 bytes: pytest's own folders are too deep.
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        before = dict(os.environ)
        harness = Harness(Path(folder), ray=request.param)
        yield harness.play
        harness.close()
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.skipif("CHAOS" not in os.environ, reason="takes minutes: CHAOS=1 plays it")
@pytest.mark.parametrize("play", [False], indirect=True, ids=["stages without Ray"])
def test_what_fails_loses_doubles_and_changes_nothing(play):
    _play(play, map(make, SEEDS))


@pytest.mark.alone
@pytest.mark.timeout(1800)
@pytest.mark.skipif("CHAOS" not in os.environ, reason="a Ray cluster of three nodes: CHAOS=1 plays it")
@pytest.mark.parametrize("play", [True], indirect=True, ids=["on Ray"])
def test_what_fails_on_a_cluster_loses_doubles_and_changes_nothing(play):
    _play(play, (SHARDS, *map(make, SEEDS)))


def _play(play, schedules):
    began = time.monotonic()
    for schedule in schedules:
        outcome = play(schedule)
        assert not outcome.wrong, outcome
        if time.monotonic() - began > SECONDS:
            break


def test_a_seed_is_a_schedule_for_ever():
    assert make(7) == make(7)
    assert len({make(seed) for seed in range(200)}) == 200
    targets = {strike.target for seed in range(200) for run in make(seed).runs for strike in run.strikes}
    kinds = {kind for seed in range(200) for run in make(seed).runs for storm in run.storms for kind in storm.kinds}
    assert targets == {"driver", "actor", "task", "node", "disk", "temporary"}
    assert kinds == {"500", "503", "reset", "reset-after", "stall", "cut", "short"}
