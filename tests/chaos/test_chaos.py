"""A few schedules of `python -m tests.chaos`, as many as two minutes hold, and 64 shards on S3."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest

from chaos.harness import Harness
from chaos.schedule import Run, Schedule, Storm, Strike, make

SECONDS = 90
SHARDS = Schedule(
    -1, "shards", "s3", (Run((Strike("actor", 0.5, 0.1),), (Storm(0.2, 0.8, 0.05, ("503", "reset-after", "short")),)),)
)
SEEDS = (3, 8, 15, 21, 34)


@pytest.fixture(scope="module")
def harness(tmp_path_factory):
    if shutil.which("weed", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("no SeaweedFS: it is not built for this platform")
    harness = Harness(tmp_path_factory.mktemp("chaos") / "work")
    yield harness
    harness.close()


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_what_fails_loses_doubles_and_changes_nothing(harness):
    began = time.monotonic()
    for schedule in (SHARDS, *map(make, SEEDS)):
        outcome = harness.play(schedule)
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
