"""The Ray Data graph: plan rows by task -> fetch -> segment and embed -> commit -> receipts. A unit is one row.

What a stage cannot do to a unit goes on as an Unfinished in its place, so that it stops no other.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import ActorDiedError

from fastsam_batch.corpus.attempts import MAX_ATTEMPTS, begin_attempt, end_attempts, is_newest
from fastsam_batch.corpus.info import CorpusInfo
from fastsam_batch.corpus.layout import receipt_file
from fastsam_batch.corpus.plan import PendingRow
from fastsam_batch.corpus.receipts import read_receipt
from fastsam_batch.corpus.rows import UnitResult
from fastsam_batch.corpus.write import commit_unit
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.metrics import JobMetrics
from fastsam_batch.outage import explain
from fastsam_batch.resources import COMMIT_CPUS, Resources
from fastsam_batch.sources.base import PlanRow, Source, UnitBytes
from fastsam_batch.sources.tasks import tasks
from fastsam_batch.storage import filesystem, join
from fastsam_batch.unit import UnitOptions

MOST_BLOCKS = 1000  # of the plan's rows
RETRIES = 3
TRIES = 2  # of a unit whose processing raises

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What every task of a run is told. Holds plain values only. `run` names it among all runs.

    `stored` is the URI of the corpus whose masks are embedded anew, where there is no `segmenter` to find them; with
    `record_unreachable` a photograph of it that its store does not give is a failed one.
    """

    corpus_uri: str
    run: str
    info: CorpusInfo
    source: Source
    segmenter: dict[str, Any] | None
    embedder: dict[str, Any] | None
    unit: UnitOptions
    stored: str | None = None
    record_unreachable: bool = False


@dataclass(frozen=True)
class Unfinished:
    """A unit, or the rest of a shard, that this run leaves as it was: the next run tries it again."""

    unit_id: str
    shard: str
    stage: str
    reason: str


def run(job: Job, rows: Sequence[PendingRow], resources: Resources) -> Iterator[dict[str, Any] | Unfinished]:
    """Process the pending rows of the plan; yields each unit's receipt as it is committed, or why it is not.

    Raises InputError or OutageError where an actor cannot have its models.
    """
    parts = tasks([row.row for row in rows], readers=resources.actors[1])
    items = [{"value": pickle.dumps(rows[part])} for part in parts]
    units = ray.data.from_items(items, override_num_blocks=min(len(items), MOST_BLOCKS))
    units.context.enable_progress_bars = False
    units.context.print_on_execution_start = False
    units.context.retried_map_errors = True  # the stages catch what they can; the rest must not end the job at once
    units.context.max_map_retries = RETRIES
    # Bytes: so each unit is a block, and a task, of its own. A process that ends takes no other unit along, whose
    # result would be lost and its attempt counted.
    units.context.target_max_block_size = 1
    units = units.map_batches(fetch, fn_args=[job], batch_size=1, batch_format="pyarrow", num_cpus=resources.fetch_cpus)
    units = units.map_batches(
        SegmentUnits,
        fn_constructor_args=[job, resources.device, resources.threads],
        compute=ray.data.ActorPoolStrategy(
            min_size=resources.actors[0], max_size=resources.actors[1], max_tasks_in_flight_per_actor=2
        ),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=resources.actor_cpus,
        num_gpus=resources.actor_gpus,
    )
    receipts = units.map_batches(commit, fn_args=[job], batch_size=1, batch_format="pyarrow", num_cpus=COMMIT_CPUS)
    try:
        for batch in receipts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for value in batch["value"].to_pylist():
                outcome = json.loads(value)
                yield outcome["receipt"] if "receipt" in outcome else Unfinished(**outcome["unfinished"])
    except ActorDiedError as error:
        raise _told_by(error) from error
    if logger.isEnabledFor(logging.INFO):
        logger.info("Ray's statistics of the stages:\n%s", receipts.stats())


def _told_by(error: ActorDiedError) -> Exception:
    """What an actor's constructor raised where that is a sentence for the user, else the error itself."""
    cause = getattr(error.args[0], "cause", None) if error.args else None
    return cause if isinstance(cause, (InputError, OutageError)) else error


def fetch(batch: pa.Table, job: Job) -> Iterator[pa.Table]:
    """Units of a run of plan rows that have no receipt, their images' bytes read."""
    for value in batch["value"]:
        rows: Sequence[PendingRow] = pickle.loads(value.as_py())
        with job.source.reader() as read:
            for row in rows:
                try:
                    for unit in _wanted(row, read(row.row, row.done)):
                        yield _row(unit)
                except Exception as error:  # noqa: BLE001 - whatever one row's store raises must not end the others
                    yield _row(_unfinished(row.row, "fetch", error))


def _wanted(row: PendingRow, units: Iterator[UnitBytes]) -> Iterator[UnitBytes]:
    """Those of a row's units that are asked for; no more of the shard is read than they need."""
    if row.only is None:
        yield from units
        return
    left = set(row.only - row.done)
    while left and (unit := next(units, None)) is not None:
        if unit.unit_id in left:
            left.remove(unit.unit_id)
            yield unit


class SegmentUnits:
    """One actor: both models, one unit at a time."""

    def __init__(self, job: Job, device: str, threads: int) -> None:
        from fastsam_batch.models.pair import check_weights, load_models  # torch loads where it runs

        self._job = job
        self._metrics = JobMetrics()
        self._workers = threads
        self._of_device = ThreadPoolExecutor(1)  # for the life of the process
        # Each of the threads works on its own, so torch keeps to one.
        self._segmenter, self._embedder = load_models(job.segmenter, job.embedder, device, 1, threads)
        check_weights(job.info.models, job.segmenter, self._embedder)
        self._worked = False  # has this process finished a unit?

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for value in batch["value"]:
            unit = pickle.loads(value.as_buffer())
            yield _row(unit if isinstance(unit, Unfinished) else self._segment(unit))

    def _segment(self, unit: UnitBytes) -> UnitResult | Unfinished:
        from fastsam_batch.stored import StoredUnit
        from fastsam_batch.unit import process_unit

        job, tries = self._job, 0
        while True:
            tries += 1
            try:
                attempt = begin_attempt(job.corpus_uri, unit.unit_id, job.run)
                if attempt.in_run > MAX_ATTEMPTS:
                    reason = f"the worker process ended on each of {MAX_ATTEMPTS} attempts"
                    return Unfinished(unit.unit_id, unit.shard, "segment", reason)
                result = process_unit(
                    unit,
                    self._segmenter or StoredUnit(str(job.stored), unit.unit_id, job.record_unreachable),
                    self._embedder,
                    job.unit,
                    isolated=attempt.number > 1,
                    end_if_stuck=True,
                    workers=self._workers,
                    of_device=self._of_device,
                )
                models = {"segmenter": self._segmenter, "embedder": self._embedder}
                self._metrics.processed(unit, result, {name: m.oom_retries for name, m in models.items() if m})
                self._worked = True
                return replace(result, attempt=attempt.number, attempt_name=attempt.name)
            except (InputError, OutageError) as error:  # it is known what is wrong, and not with this process
                return _unfinished(unit, "segment", error)
            except Exception as error:  # noqa: BLE001 - whatever one unit raises must not end the others
                if tries == TRIES:
                    return _unfinished(unit, "segment", error)
                logger.warning("unit %s is tried again after %s", unit.unit_id, _reason(error))
                if self._worked:
                    # The fault may lie in the process (after some CUDA errors every call fails), which would then
                    # fail all units to come: Ray puts a fresh one in its place, and the unit is tried there.
                    os._exit(1)


def commit(batch: pa.Table, job: Job) -> pa.Table:
    """Write units; the rows that go on are their receipts."""
    outcomes = []
    for value in batch["value"]:
        unit = pickle.loads(value.as_buffer())
        outcome = unit if isinstance(unit, Unfinished) else _commit(unit, job)
        key, content = ("unfinished", asdict(outcome)) if isinstance(outcome, Unfinished) else ("receipt", outcome)
        outcomes.append(json.dumps({key: content}))
    return pa.table({"value": outcomes})


def _commit(unit: UnitResult, job: Job) -> dict[str, Any] | Unfinished:
    try:
        if is_newest(job.corpus_uri, unit.unit_id, unit.attempt_name):
            receipt = commit_unit(job.corpus_uri, job.info, unit)
            JobMetrics().committed(receipt)
        else:
            committed = _committed(job, unit.unit_id)
            if committed is None:
                return Unfinished(unit.unit_id, unit.shard, "commit", "another attempt at this unit has begun since")
            receipt = committed
    except Exception as error:  # noqa: BLE001 - whatever the store raises for one unit must not end the others
        return _unfinished(unit, "commit", error)
    try:
        end_attempts(job.corpus_uri, unit.unit_id)
    except OSError as error:
        logger.warning("unit %s: its attempts remain noted: %s", unit.unit_id, _reason(error))
    return {**receipt, "started_at": unit.started_at}


def _committed(job: Job, unit_id: str) -> dict[str, Any] | None:
    """The receipt of a unit that was committed by this task before its worker died, or by another attempt."""
    fs, root = filesystem(job.corpus_uri)
    try:
        return read_receipt(fs, join(root, receipt_file(unit_id)))
    except FileNotFoundError:
        return None


def _unfinished(what: PlanRow | UnitBytes | UnitResult, stage: str, error: Exception) -> Unfinished:
    return Unfinished(what.unit_id, what.shard, stage, _reason(error))


def _reason(error: Exception) -> str:
    return explain(error) if isinstance(error, (OSError, InputError)) else f"{type(error).__name__}: {explain(error)}"


def _row(value: Any) -> pa.Table:
    """One row of one column; a unit's bytes are not copied once more into it."""
    data = pickle.dumps(value, protocol=5)
    buffers = [None, pa.py_buffer(struct.pack("=2q", 0, len(data))), pa.py_buffer(data)]
    return pa.table({"value": pa.Array.from_buffers(pa.large_binary(), 1, buffers)})
