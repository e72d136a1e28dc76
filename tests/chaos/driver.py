"""Drivers of the job as processes of their own, forked from one that has imported what they need."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_PRELOAD = ["torch", "ultralytics.nn.tasks", "ray.data", "s3fs", "fastsam_batch.run", "fastsam_batch.pipeline"]


class Drivers:
    """Starts `fastsam-batch segment` with arguments and an environment."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)

    def start(self, arguments: list[str], environment: dict[str, str], log: Path) -> multiprocessing.Process:
        """The process; what it prints goes to `log`.out and `log`.err. Without RAY_ADDRESS it runs without Ray."""
        process = self._context.Process(target=_drive, args=(arguments, environment, str(log)))
        process.start()
        return process


def _drive(arguments: list[str], environment: dict[str, str], log: str) -> None:
    for number, name in ((1, ".out"), (2, ".err")):
        with open(log + name, "ab") as file:
            os.dup2(file.fileno(), number)
    os.environ.update(environment)
    from fastsam_batch import pipeline, run
    from fastsam_batch.cli import main

    if "RAY_ADDRESS" not in environment:
        run.joined_ray, pipeline.run = _no_ray, _run_here
    sys.exit(main(["segment", *arguments]))


@contextlib.contextmanager
def _no_ray(verbose: bool) -> Iterator[tuple[dict[str, float], float]]:
    yield {"CPU": 1.0}, 1.0


def _run_here(job, rows: Sequence, resources) -> Iterator:  # type: ignore[no-untyped-def, type-arg]
    """The pipeline's own stages one after the other in this process: all of the job but Ray."""
    import pickle

    import pyarrow as pa

    from fastsam_batch.pipeline import SegmentUnits, Unfinished, commit, fetch

    segment = SegmentUnits(job, resources.device, 1)
    for row in rows:
        for fetched in fetch(pa.table({"value": [pickle.dumps(row)]}), job):
            for segmented in segment(fetched):
                for value in commit(segmented, job)["value"].to_pylist():
                    outcome = json.loads(value)
                    yield outcome["receipt"] if "receipt" in outcome else Unfinished(**outcome["unfinished"])
