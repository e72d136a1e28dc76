"""How a run shows itself on a terminal: its progress, its summary, and what it left."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

from fastsam_batch.words import counted, shown

if TYPE_CHECKING:
    from fastsam_batch.corpus.read import Corpus
    from fastsam_batch.run import Progress

UNFINISHED_SHOWN = 20
_ERASE_REST = "\x1b[K"  # of a line before that was longer
_UNREACHED = re.compile(r"\w+://.+: ")  # as a reason begins where an object could not be fetched


class ProgressLine:
    """One line, rewritten on a terminal; in a log, a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        """Print where the run is, if it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + (0.2 if self._terminal else 10)
        line = (
            f"{counted(progress.units, 'unit')} · {counted(progress.images, 'image')} · "
            f"{counted(progress.masks, 'mask')} · {progress.failed:,} failed · "
            f"{progress.images_per_second:.1f} images/s"
        )
        if self._terminal:
            print(f"\r{line}{_ERASE_REST}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def finish_run(summary: dict[str, Any], output: str, max_failed_fraction: float, *, can_record: bool = False) -> int:
    """Tell what a run did and what it left; the exit code: 3 where that is units or too many images, else 0.

    `can_record` as for `print_unfinished`. Raises as `too_many_failed`.
    """
    if sys.stderr.isatty():
        print(file=sys.stderr)  # behind the line of progress
    print_summary(summary, output)
    print_unfinished(summary, can_record)
    too_many = too_many_failed(summary, output, max_failed_fraction)
    return 3 if too_many or summary["unfinished_units"] else 0


def print_unfinished(summary: dict[str, Any], can_record: bool = False) -> None:
    """Which units were left, and what to do, on standard error; `can_record`: --record-unreachable may help."""
    if not summary["unfinished_units"]:
        return
    for unit in summary["unfinished"][:UNFINISHED_SHOWN]:
        place = f"unit {unit['unit_id']}" + (f" of {unit['shard']}" if unit["shard"] else "")
        print(shown(f"unfinished: {place}, {unit['stage']}: {unit['reason']}"), file=sys.stderr)
    units = summary["unfinished_units"]
    left, them = ("was left as it was", "it") if units == 1 else ("were left as they were", "them")
    print(
        f"{counted(units, 'unit')} could not be finished and {left}; all others are done. Run the same command again "
        f"to try {them} again",
        file=sys.stderr,
    )
    if can_record and any(_UNREACHED.match(unit["reason"]) for unit in summary["unfinished"]):
        print(
            "If a server is gone for good, or a store does not give an image for good, --record-unreachable makes "
            "images of folders, and those named by URI, failed ones and finishes the rest of their units",
            file=sys.stderr,
        )


def note_unfinished(corpus: Corpus) -> None:
    """Tell on standard error that a corpus is not whole yet, for a command that has taken what there is of it."""
    from fastsam_batch.corpus.status import units_left
    from fastsam_batch.errors import InputError, OutageError

    try:
        left = units_left(corpus)
    except (InputError, OutageError) as error:  # a corpus can be read without its plan, and what was asked for is done
        print(shown(f"note: whether the corpus is whole is not known: {error}"), file=sys.stderr)
        return
    if left:
        print(
            f"note: units and shards of the corpus that are not finished: {left:,}; nothing of them is in this, and "
            "`fastsam-batch status` tells how far it is",
            file=sys.stderr,
        )


def too_many_failed(summary: dict[str, Any], output: str, max_fraction: float) -> bool:
    """True, and told on standard error, where of the whole corpus more than that share of its images failed.

    A run that finds everything done answers as the one that did it. Raises as `images_failed`.
    """
    if max_fraction >= 1:
        return False
    from fastsam_batch.corpus.status import images_failed

    failed, images = images_failed(output) if summary["skipped_units"] else (summary["failed"], summary["images"])
    if failed <= max_fraction * images:
        return False
    print(
        f"{failed:,} of {images:,} images of the corpus failed, more than --max-failed-fraction {max_fraction} allows",
        file=sys.stderr,
    )
    return True


def print_summary(summary: dict[str, Any], output: str) -> None:
    """What a run did, as lines."""
    from fastsam_batch.storage import redact

    print(f"corpus   {redact(output)}")
    print(f"images   {summary['images']:,} ({summary['failed']:,} failed)")
    for kind, count in summary["failures"].items():
        print(f"         {count:,} {kind}")
    print(f"masks    {summary['masks']:,}")
    print(f"units    {summary['units']:,} ({summary['skipped_units']:,} were there before)")
    print(f"seconds  {summary['seconds']:.1f} ({summary['images_per_second']:.1f} images/s without start-up)")
    total = sum(summary["stages"].values())
    for stage, seconds in sorted(summary["stages"].items(), key=lambda item: -item[1]):
        print(f"         {seconds:8.2f} {stage} ({seconds / total:.0%})")
