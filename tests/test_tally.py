"""The sums of a run, from its receipts."""

from __future__ import annotations

import time

import pytest

from fastsam_batch.run import Tally


def receipt(started_at):
    return {"images": 100, "failed": 1, "masks": 7, "failures": {}, "stages": {"decode": 1.5}, "started_at": started_at}


def test_the_rate_ends_with_the_last_commit():
    tally = Tally(0)
    tally.add(receipt(time.time() - 2))
    time.sleep(0.2)  # as Ray's end, which is not the job's work
    rate = tally.summary(5)["images_per_second"]
    assert rate == pytest.approx(tally.progress().images_per_second, abs=0.001) == pytest.approx(50, rel=0.05)


def test_a_worker_whose_clock_is_ahead_gives_no_rate_beyond_sense():
    tally = Tally(0)
    tally.add(receipt(time.time() + 60))
    assert 0 < tally.summary(5)["images_per_second"] <= 100_000


def test_nothing_done_is_no_rate():
    assert Tally(3).summary(5)["images_per_second"] == 0
