"""The Ray Data graph: plan rows -> fetch -> segment and embed -> commit -> receipts. A unit is one row."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
import ray.data

from fastsam_batch.corpus.attempts import MAX_ATTEMPTS, begin_attempt, end_attempts
from fastsam_batch.corpus.info import CorpusInfo
from fastsam_batch.corpus.plan import PendingRow
from fastsam_batch.corpus.write import commit_unit
from fastsam_batch.resources import Resources
from fastsam_batch.sources.base import Source
from fastsam_batch.unit import UnitOptions

RETRIES = 3


@dataclass(frozen=True)
class Job:
    """What every task of a run is told. Holds plain values only."""

    corpus_uri: str
    info: CorpusInfo
    source: Source
    segmenter: dict[str, Any]
    embedder: dict[str, Any] | None
    unit: UnitOptions


def run(job: Job, rows: Sequence[PendingRow], resources: Resources) -> Iterator[dict[str, Any]]:
    """Process the pending rows of the plan; yields each unit's receipt as it is committed."""
    items = [{"value": pickle.dumps(row)} for row in rows]
    units = ray.data.from_items(items, override_num_blocks=min(len(items), resources.max_blocks))
    units.context.enable_progress_bars = False
    units.context.print_on_execution_start = False
    units.context.retried_map_errors = True  # a store that fails for a moment must not end the job
    units.context.max_map_retries = RETRIES
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
    receipts = units.map_batches(
        commit, fn_args=[job], batch_size=1, batch_format="pyarrow", num_cpus=resources.commit_cpus
    )
    for batch in receipts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for value in batch["value"].to_pylist():
            yield json.loads(value)


def fetch(batch: pa.Table, job: Job) -> Iterator[pa.Table]:
    """Units of a plan row that have no receipt, their images' bytes read."""
    for value in batch["value"]:
        row: PendingRow = pickle.loads(value.as_py())
        for unit in job.source.read(row.row, row.done):
            yield _row(unit)


class SegmentUnits:
    """One actor: both models, one unit at a time."""

    def __init__(self, job: Job, device: str, threads: int | None) -> None:
        from fastsam_batch.models.pair import load_models  # torch loads where it runs

        self._job = job
        self._segmenter, self._embedder = load_models(job.segmenter, job.embedder, device, threads)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        from fastsam_batch.unit import give_up, process_unit

        for value in batch["value"]:
            unit = pickle.loads(value.as_buffer())
            attempt = begin_attempt(self._job.corpus_uri, unit.unit_id)
            if attempt > MAX_ATTEMPTS:
                result = give_up(unit, self._embedder)
            else:
                result = process_unit(unit, self._segmenter, self._embedder, self._job.unit, isolated=attempt > 1)
            yield _row(replace(result, attempt=attempt))


def commit(batch: pa.Table, job: Job) -> pa.Table:
    """Write units; the rows that go on are their receipts."""
    receipts = []
    for value in batch["value"]:
        unit = pickle.loads(value.as_buffer())
        receipts.append({**commit_unit(job.corpus_uri, job.info, unit), "started_at": unit.started_at})
        end_attempts(job.corpus_uri, unit.unit_id)
    return pa.table({"value": [json.dumps(receipt) for receipt in receipts]})


def _row(value: Any) -> pa.Table:
    return pa.table({"value": pa.array([pickle.dumps(value, protocol=5)], pa.large_binary())})
