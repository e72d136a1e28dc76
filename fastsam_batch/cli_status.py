"""The command `status`: how far a corpus is."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastsam_batch.ranges import check_range
from fastsam_batch.words import counted

if TYPE_CHECKING:
    from fastsam_batch.corpus.status import CorpusStatus


def status_options(parser: argparse.ArgumentParser) -> None:
    """Options of `status`."""
    parser.add_argument("--corpus", required=True, metavar="URI", help="the output of a segment job, running or not")
    parser.add_argument("--recent", type=int, default=200, help="units that the rate is taken from, the newest")


def status(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Counts, rate and time left, from the plan and the receipts."""
    from fastsam_batch.corpus.status import corpus_status

    check_range("--recent", arguments["recent"], 1)
    found = corpus_status(arguments["corpus"], arguments["recent"])
    for line in _lines(found):
        print(line)
    return {"finished": found.finished, **asdict(found)}, 0


def _lines(found: CorpusStatus) -> list[str]:
    left = "an unknown number of images" if found.images_left is None else counted(found.images_left, "image")
    about = "about " if found.estimated and found.images_left is not None else ""
    parts = [counted(found.units_left, "unit")] if found.units_left or not found.shards_left else []
    parts += [counted(found.shards_left, "shard")] if found.shards_left else []
    done = f"{counted(found.images, 'image')} in {counted(found.units, 'unit')}, {counted(found.masks, 'mask')}"
    lines = [
        f"done     {done}, {counted(found.bytes, 'byte')}",
        f"failed   {counted(found.failed, 'image')}",
        *(f"         {count:,} {kind}" for kind, count in found.failures.items()),
        "left     nothing" if found.finished else f"left     {about}{left} in {' and '.join(parts)}",
    ]
    if found.retried_units:
        lines.append(f"retried  {counted(found.retried_units, 'unit')} took more than one attempt")
    if found.images_per_hour is not None and found.last_commit is not None:
        lines.append(f"rate     {found.images_per_hour:,.0f} images an hour, the last unit at {found.last_commit}")
    if found.hours_left and not found.finished:
        lines.append(f"time     {about}{_duration(found.hours_left)} left at this rate")
    return lines


def _duration(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else counted(max(round(60 * hours), 1), "minute")
