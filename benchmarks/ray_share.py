"""What Ray costs: the job's steady state against the same images through the bare components in one process.

Both run in one session, bare first and last around the job, with the same weights and threads, over `--images`
photographs made of those that ship in installed packages. Start-up is left out of both: the clock of each runs from the
end of its first unit, which warms it up, to the last commit. Run it with OMP_NUM_THREADS=1, as Ray gives it to its
workers: with more the bare side's threads stand in each other's way.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import machine
from made_photographs import make_photographs

from fastsam_batch.config import segment_options
from fastsam_batch.corpus.info import describe
from fastsam_batch.corpus.write import commit_unit
from fastsam_batch.models.pair import load_models
from fastsam_batch.run import segment_corpus
from fastsam_batch.sources import open_source
from fastsam_batch.sources.base import Planned
from fastsam_batch.unit import UnitOptions, process_unit


def bare(folder: Path, unit_size: int, threads: int) -> float:
    """Seconds for read, decode, segment, embed and write in this process, of all units but the first."""
    segmenter, embedder = load_models({"path": "builtin"}, {"name": "builtin"}, "cpu", 1)
    source = open_source(str(folder))
    rows = list(source.plan(Planned(), unit_size, None))
    models = {"segmenter": {"name": "builtin", "sha256": {}, "licence": ""}, "embedder": None}
    with tempfile.TemporaryDirectory() as output:
        info = describe(str(folder), {}, models, embedder.dim if embedder else None)
        ends = []
        for row in rows:
            for unit in source.read(row, ()):
                commit_unit(output, info, process_unit(unit, segmenter, embedder, UnitOptions(), workers=threads))
                ends.append(time.perf_counter())
        return ends[-1] - ends[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--unit-size", type=int, default=16)
    options = parser.parse_args()
    os.environ.setdefault("RAY_ADDRESS", "local")
    threads = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        make_photographs(folder, options.images)
        before = bare(folder, options.unit_size, threads)
        values = {"input": str(folder), "output": f"{temporary}/corpus", "unit_size": options.unit_size}
        ends: list[float] = []
        summary = segment_corpus(segment_options(values), lambda progress: ends.append(time.perf_counter()))
        after = bare(folder, options.unit_size, threads)
    job_seconds = ends[-1] - ends[0]
    print(
        json.dumps(
            {
                "machine": machine.name(),
                "images": summary["images"],
                "unit_size": options.unit_size,
                "bare_seconds": [round(before, 2), round(after, 2)],
                "job_seconds": round(job_seconds, 2),
                "bare_share": round((before + after) / 2 / job_seconds, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
