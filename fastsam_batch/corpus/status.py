"""How far a corpus is, from its plan and its receipts alone: done, failed, left, and how fast."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fastsam_batch.corpus.plan import none_is_missing, read_plans, refuse_unplanned, stream_units, units_by_prefix
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.receipts import read_receipts
from fastsam_batch.sources.base import PlanRow

RECENT = 200  # receipts that the rate is taken from
_PAUSE = timedelta(minutes=30)  # longer without a commit, and the job was not running


@dataclass(frozen=True)
class CorpusStatus:
    """Counts of a corpus now.

    `images_left` is None where nothing tells it: shards that are still to be opened, and none that is finished
    to go by. `estimated` says that it goes by the mean of the finished shards. `images_per_hour` and `hours_left`
    are None below two receipts of the same run.
    """

    planned_units: int
    units: int
    images: int
    failed: int
    failures: dict[str, int]
    masks: int
    bytes: int
    units_left: int
    shards_left: int
    images_left: int | None
    estimated: bool
    retried_units: int
    images_per_hour: float | None
    hours_left: float | None
    last_commit: str | None

    @property
    def finished(self) -> bool:
        """True where every planned image has its row."""
        return self.images_left == 0 and self.units_left == 0 and self.shards_left == 0


def corpus_status(corpus_uri: str, recent: int = RECENT) -> CorpusStatus:
    """What is done, failed and left. Reads the plan and every receipt, many at a time in a store, and no other file.

    Raises InputError where there is no corpus, a receipt is damaged, or a part of the plan is lost.
    """
    Corpus.open(corpus_uri)
    rows, _ = read_plans(corpus_uri)
    receipts = list(read_receipts(corpus_uri))
    refuse_unplanned(corpus_uri, rows, [receipt["unit_id"] for receipt in receipts])
    left = _left(rows, receipts)
    rate = images_per_hour(receipts, recent)
    failures: collections.Counter[str] = collections.Counter()
    for receipt in receipts:
        failures.update(receipt["failures"])
    return CorpusStatus(
        planned_units=sum(row.kind != "stream" for row in rows),
        units=len(receipts),
        images=sum(receipt["images"] for receipt in receipts),
        failed=sum(receipt["failed"] for receipt in receipts),
        failures=dict(sorted(failures.items())),
        masks=sum(receipt["masks"] for receipt in receipts),
        bytes=sum(file["bytes"] for receipt in receipts for file in receipt["files"].values()),
        units_left=left.units,
        shards_left=left.shards,
        images_left=left.images,
        estimated=bool(left.given),
        retried_units=sum(receipt["attempt"] > 1 for receipt in receipts),
        images_per_hour=rate,
        hours_left=None if not rate or left.images is None else left.images / rate,
        last_commit=max((receipt["created_at"] for receipt in receipts), default=None),
    )


def units_left(corpus: Corpus) -> int:
    """Units and shards that were not finished when the corpus's receipts were read. Raises as `read_plans`."""
    rows, _ = read_plans(corpus.uri, members=False)
    left = _left(rows, list(corpus.receipts().values()))
    return left.units + left.shards


def images_failed(corpus_uri: str) -> tuple[int, int]:
    """How many images of a corpus failed, and how many it has, by all its receipts. Raises as `corpus_status`."""
    failed = images = 0
    for receipt in read_receipts(corpus_uri):
        failed, images = failed + receipt["failed"], images + receipt["images"]
    return failed, images


def images_per_hour(receipts: Sequence[dict[str, Any]], recent: int = RECENT) -> float | None:
    """Images committed an hour, by the newest receipts since the last pause; the first only starts the clock."""
    dated = sorted((datetime.fromisoformat(receipt["created_at"]), receipt["images"]) for receipt in receipts)
    newest = dated[-recent:]
    for index in range(len(newest) - 1, 0, -1):
        if newest[index][0] - newest[index - 1][0] > _PAUSE:
            newest = newest[index:]
            break
    seconds = (newest[-1][0] - newest[0][0]).total_seconds() if newest else 0
    # created_at has whole seconds: a shorter span says nothing.
    return None if seconds < 1 else 3600 * sum(images for _, images in newest[1:]) / seconds


@dataclass
class _Left:
    """What is not finished; `given` are the images that each open shard of unknown length gave so far."""

    units: int = 0
    shards: int = 0
    images_known: int = 0
    given: list[int] = field(default_factory=list)
    finished_shards: list[int] = field(default_factory=list)

    @property
    def images(self) -> int | None:
        """With the mean of the finished shards for those of unknown length."""
        if not self.given:
            return self.images_known
        if not self.finished_shards:
            return None
        mean = sum(self.finished_shards) / len(self.finished_shards)
        return self.images_known + round(sum(max(mean - given, 0) for given in self.given))


def _left(rows: Sequence[PlanRow], receipts: Sequence[dict[str, Any]]) -> _Left:
    done = {receipt["unit_id"]: receipt for receipt in receipts}
    by_prefix = units_by_prefix(done)
    left = _Left()
    for row in rows:
        if row.kind != "stream":
            if row.unit_id not in done:
                left.units += 1
                left.images_known += row.known_images or 0
            continue
        units = stream_units(row, by_prefix.get(row.unit_id, []))
        given = sum(done[unit_id]["images"] for unit_id in units)
        if units and none_is_missing(row, units) and done[units[-1]]["last"]:
            left.finished_shards.append(given)
            continue
        left.shards += 1
        if row.known_images is None:
            left.given.append(given)
        else:
            left.images_known += row.known_images - given
    return left
