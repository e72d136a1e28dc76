"""How a run shows itself on a terminal."""

from __future__ import annotations

import sys

import pytest

from fastsam_batch.cli_progress import ProgressLine, print_unfinished
from fastsam_batch.run import Progress


def test_a_shorter_line_leaves_nothing_of_a_longer_one(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("time.monotonic", iter([0, 0, 1, 1]).__next__)
    line = ProgressLine()
    line.show(Progress(1, 128, 0, 900, 100.0))
    line.show(Progress(2, 256, 0, 1800, 9.5))
    first, second = capsys.readouterr().err.split("\r")[1:]
    assert first.startswith("1 unit · 128 images · 900 masks") and "100.0 images/s" in first
    assert second.startswith("2 units") and second.endswith("9.5 images/s\x1b[K")


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (
            1,
            "1 unit could not be finished and was left as it was; all others are done. Run the same command again to "
            "try it again",
        ),
        (
            2,
            "2 units could not be finished and were left as they were; all others are done. Run the same command "
            "again to try them again",
        ),
    ],
)
def test_units_that_are_left_are_counted_in_words(units: int, said: str, capsys) -> None:
    unit = {"unit_id": "a", "shard": "", "stage": "fetch", "reason": "no answer"}
    print_unfinished({"unfinished_units": units, "unfinished": [unit] * units})
    assert capsys.readouterr().err.splitlines() == ["unfinished: unit a, fetch: no answer"] * units + [said]
