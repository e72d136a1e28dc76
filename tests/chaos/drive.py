"""The job's driver as a program: `fastsam-batch segment` with its arguments. Without RAY_ADDRESS it leaves Ray out."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence

from fastsam_batch import pipeline, run
from fastsam_batch.cli import main
from fastsam_batch.sources.tasks import tasks


@contextlib.contextmanager
def no_ray(verbose: bool, needed: str | None = None) -> Iterator[tuple[dict[str, float], float]]:
    """One CPU and nothing else."""
    yield {"CPU": 1.0}, 1.0


def run_here(job, rows: Sequence, resources) -> Iterator:  # type: ignore[no-untyped-def, type-arg]
    """The pipeline's own stages one after the other in this process: all of the job but Ray."""
    import pickle

    import pyarrow as pa

    segment = pipeline.SegmentUnits(job, resources.device, 1)
    for part in tasks([row.row for row in rows], readers=1):
        for fetched in pipeline.fetch(pa.table({"value": [pickle.dumps(rows[part])]}), job):
            for segmented in segment(fetched):
                for value in pipeline.commit(segmented, job)["value"].to_pylist():
                    outcome = json.loads(value)
                    yield outcome["receipt"] if "receipt" in outcome else pipeline.Unfinished(**outcome["unfinished"])


if __name__ == "__main__":
    if "RAY_ADDRESS" not in os.environ:
        run.joined_ray, pipeline.run = no_ray, run_here
    sys.exit(main(["segment", *sys.argv[1:]]))
