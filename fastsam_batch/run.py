"""The main job from options to summary: models, corpus, plan, pipeline."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fastsam_batch.config import LATER_OPTIONS, RESULT_OPTIONS, SegmentOptions
from fastsam_batch.corpus.info import CorpusInfo, admit, describe, write_info
from fastsam_batch.corpus.lease import Lease, hold
from fastsam_batch.corpus.plan import (
    PendingRow,
    committed_units,
    images_planned,
    pending,
    planned,
    read_plans,
    write_plan,
)
from fastsam_batch.errors import InputError
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.embedder_files import embedder_anywhere
from fastsam_batch.models.exported import check_device
from fastsam_batch.models.network import read_header
from fastsam_batch.models.weights import anywhere, find_segmenter
from fastsam_batch.ray_cluster import joined_ray
from fastsam_batch.sources import open_source, refuse_another_kind
from fastsam_batch.sources.base import PlanRow, Source
from fastsam_batch.storage import absolute
from fastsam_batch.unit import UnitOptions
from fastsam_batch.words import counted

if TYPE_CHECKING:
    from fastsam_batch.pipeline import Job, Unfinished

UNFINISHED_NAMED = 100  # units named in a summary; their number is told in full


@dataclass(frozen=True)
class Progress:
    """What a run has done so far; units that were there before do not count."""

    units: int
    images: int
    failed: int
    masks: int
    images_per_second: float


def segment_corpus(
    options: SegmentOptions, report: Callable[[Progress], None] = lambda progress: None
) -> dict[str, Any]:
    """Segment and embed an input into a corpus, what is missing of it; returns the summary.

    Units that cannot be finished now are left as they are and told under `unfinished`; a rerun tries them again.
    Raises InputError for an input, an output or weights that cannot be used, OutageError where the output's store
    fails before there is any work to report.
    """
    began = time.perf_counter()
    source = source_of(options)
    info, segmenter, embedder = _describe(options)
    admit(options.output, info)  # before waiting for another job: this one may be refused anyway
    with hold(options.output) as lease:
        there = admit(options.output, info)
        rows, files = read_plans(options.output)
        refuse_another_kind(options.input, source, rows)
        done = committed_units(options.output)
        new = _new_rows(options, source, rows, done)
        left, skipped = pending(options.output, rows, new, done)
        if left:
            _check_limit(options.limit, rows)
        tally = Tally(skipped)
        begin = partial(store_basis, options.output, None if there else info, files + 1, new)
        if left:
            job = job_of(options, lease, there or info, source, segmenter, embedder)
            run_units(options, job, left, lease, begin=begin, tally=tally, report=report)
        else:
            begin()
    return tally.summary(time.perf_counter() - began)


def source_of(options: SegmentOptions) -> Source:
    """What a run reads. Raises InputError as `open_source`."""
    return open_source(
        options.input,
        bytes_column=options.bytes_column,
        uri_column=options.uri_column,
        id_column=options.id_column,
        record_unreachable=options.record_unreachable,
    )


def _describe(options: SegmentOptions) -> tuple[CorpusInfo, dict[str, Any], dict[str, Any] | None]:
    """What the corpus is made of, and the arguments that make its models. Loads them once, to know."""
    files = find_segmenter(options.segmenter)
    own, licence = read_header(files.main, options.imgsz)
    if options.device == "cpu":
        check_device(files.main, "cpu")
    embedder = None if options.embedder == "none" else Embedder(options.embedder, mode=options.embedding_mode)
    models: dict[str, Any] = {
        "segmenter": {"name": files.name, "sha256": files.sha256(), "licence": licence},
        "embedder": embedder and embedder_entry(embedder),
    }
    resolved = {
        "imgsz": int(own["imgsz"]),
        "conf": options.conf or own["conf"],
        "iou": options.iou or own["iou"],
    }
    results = {name: resolved.get(name, getattr(options, name)) for name in RESULT_OPTIONS}
    tiling = options.tiling()
    later = {name: tiling.get(name, getattr(options, name)) for name in LATER_OPTIONS}
    results |= {name: value for name, value in later.items() if value != LATER_OPTIONS[name]}
    info = describe(options.input, results, models, embedder.dim if embedder else None, options.bytes_column)
    arguments = {
        "path": anywhere(options.segmenter),
        **resolved,
        "max_masks": options.max_masks,
        "precision": options.precision,
    }
    if options.tile is not None:
        arguments |= tiling
    return info, arguments, embedder_arguments(options) if embedder else None


def embedder_entry(embedder: Embedder) -> dict[str, Any]:
    """What corpus.json says of an embedder (schemas/corpus.v1.json)."""
    return {
        "name": embedder.name,
        "sha256": embedder.files.sha256(),
        "licence": embedder.licence,
        "text_encoder": embedder_anywhere(embedder.name),
    }


def embedder_arguments(options: SegmentOptions) -> dict[str, Any]:
    """The arguments that make the embedder."""
    return {"name": embedder_anywhere(options.embedder), "mode": options.embedding_mode, "precision": options.precision}


def _new_rows(options: SegmentOptions, source: Source, rows: list[PlanRow], done: set[str]) -> list[PlanRow]:
    """What the input holds beyond the stored plan, of which `done` units are committed, up to the limit."""
    limit = options.limit
    if limit is not None:
        held = images_planned(rows)
        limit = 0 if held is None else max(limit - held, 0)
    before = planned(rows, done)
    if limit == 0:
        source.check(before)  # what is left of the plan is read all the same
        return []
    return list(source.plan(before, options.unit_size, limit))


def _check_limit(limit: int | None, rows: list[PlanRow]) -> None:
    """Raise InputError where the stored plan, of which something is left, goes beyond the limit: it cannot be cut."""
    held = images_planned(rows)
    if limit is not None and (held is None or held > limit):
        planned_before = "whole shards" if held is None else counted(held, "image")
        raise InputError(
            f"--limit {limit}: a run before has planned {planned_before} of this corpus and left some; leave --limit "
            "out to finish them, or use another --output"
        )


def store_basis(output: str, info: CorpusInfo | None, number: int, rows: list[PlanRow]) -> None:
    """Store what a run rests on: corpus.json where there is none yet, and the plan of that number if it has rows."""
    if info is not None:
        write_info(output, info)
    if rows:
        write_plan(output, number, rows)


def job_of(
    options: SegmentOptions,
    lease: Lease,
    info: CorpusInfo,
    source: Source,
    segmenter: dict[str, Any] | None,
    embedder: dict[str, Any] | None,
    stored: str | None = None,
) -> Job:
    """The job of a run, but for the batches of its models, which `run_units` knows."""
    from fastsam_batch.pipeline import Job

    place = stored and absolute(stored)
    unit = UnitOptions(
        crop=options.crop,
        embedding_mode=options.embedding_mode,
        min_area=options.min_area,
        max_pixels=options.max_pixels,
        decode_seconds=options.decode_seconds,
    )
    return Job(
        absolute(options.output), lease.run, info, source, segmenter, embedder, unit, place, options.record_unreachable
    )


def run_units(
    options: SegmentOptions,
    job: Job,
    left: list[PendingRow],
    lease: Lease,
    *,
    begin: Callable[[], None],
    tally: Tally,
    report: Callable[[Progress], None],
) -> None:
    """Process the rows that are left, on the cluster or a Ray of its own, and count what comes of them.

    `begin` is called once there are machines that can do it: a corpus is not made by a run that is refused.
    """
    from fastsam_batch import pipeline
    from fastsam_batch.resources import divide

    rows = job.source.renewed([row.row for row in left])
    left = [replace(row, row=renewed) for row, renewed in zip(left, rows, strict=True)]
    with joined_ray(options.verbose, "GPU" if options.device == "cuda" else None) as (total, node_cpus):
        resources = divide(options, total, node_cpus)
        if job.segmenter is not None:
            check_device(find_segmenter(job.segmenter["path"]).main, resources.device)
        begin()
        job = replace(
            job,
            segmenter=job.segmenter and {**job.segmenter, "batch_size": resources.batch_size},
            embedder=job.embedder and {**job.embedder, "batch_size": resources.crops},
        )
        for outcome in pipeline.run(job, left, resources):
            lease.check()
            if isinstance(outcome, pipeline.Unfinished):
                tally.leave(outcome)
            else:
                tally.add(outcome)
            report(tally.progress())


class Tally:
    """Sums over the receipts of a run."""

    def __init__(self, skipped_units: int) -> None:
        self._skipped = skipped_units
        self._sums: collections.Counter[str] = collections.Counter()
        self._failures: collections.Counter[str] = collections.Counter()
        self._stages: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._first_start = float("inf")
        self._last_commit = 0.0
        self._unfinished: list[Unfinished] = []

    def leave(self, unit: Unfinished) -> None:
        self._unfinished.append(unit)

    def add(self, receipt: dict[str, Any]) -> None:
        self._sums["units"] += 1
        for name in ("images", "failed", "masks"):
            self._sums[name] += receipt[name]
        self._failures.update(receipt["failures"])
        for stage, seconds in receipt["stages"].items():
            self._stages[stage] += seconds
        self._last_commit = time.time()
        # A worker's clock may go ahead of this one's.
        self._first_start = min(self._first_start, receipt["started_at"], self._last_commit)

    def progress(self) -> Progress:
        return Progress(
            units=self._sums["units"],
            images=self._sums["images"],
            failed=self._sums["failed"],
            masks=self._sums["masks"],
            images_per_second=self._sums["images"] / max(self._last_commit - self._first_start, 1e-3),
        )

    def summary(self, seconds: float) -> dict[str, Any]:
        """`images_per_second` leaves start-up out: from the first unit's begin to the last one's commit."""
        rate = self.progress().images_per_second if self._sums["units"] else 0.0
        return {
            "images": self._sums["images"],
            "failed": self._sums["failed"],
            "masks": self._sums["masks"],
            "units": self._sums["units"],
            "skipped_units": self._skipped,
            "unfinished_units": len(self._unfinished),
            "unfinished": [asdict(unit) for unit in self._unfinished[:UNFINISHED_NAMED]],
            "seconds": round(seconds, 3),
            "images_per_second": round(rate, 3),
            "failures": dict(sorted(self._failures.items())),
            "stages": {stage: round(total, 3) for stage, total in self._stages.items()},
        }
