"""How long a rerun takes to know what is left of 10,000,000 images in 10,000 shards, and in how much memory.

The plan and the receipts are made without images; three of four shards are done, an eighth is half done. What is
timed is what a rerun does before its first unit: list the shards, read the plan, plan what is new (which opens
every Parquet footer), list and read receipts, take
URIs anew. It runs in a process of its own on one core, once for tar shards and once for Parquet.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fastsam_batch.corpus.layout import RECEIPTS_FOLDER, receipt_file
from fastsam_batch.corpus.plan import pending, planned, read_plans, write_plan
from fastsam_batch.corpus.schema import contract
from fastsam_batch.sources import open_source
from fastsam_batch.sources.base import PlanRow
from fastsam_batch.sources.names import unit_name, unit_prefix

UNIT_SIZE = 128


def main() -> None:
    """Print one JSON line a kind of shard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "KIND"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(Path(arguments.measure[0]), arguments.measure[1])))
        return
    for kind in ("tar", "parquet"):
        with tempfile.TemporaryDirectory() as folder:
            units = make(Path(folder), kind, arguments.images, arguments.shards)
            command = [sys.executable, __file__, "--measure", folder, kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = {"kind": kind, "images": arguments.images, "shards": arguments.shards, "units": units}
        print(json.dumps({**found, **json.loads(done.stdout)}), flush=True)


def make(folder: Path, kind: str, images: int, shards: int) -> int:
    """Empty shards, their plan, and the receipts of those that are done; returns the number of units."""
    size = images // shards
    rows, units = [], 0
    model = folder / "model"
    if kind == "parquet":  # a footer that says as many rows as the plan
        pq.write_table(pa.table({"bytes": pa.array([b""] * size, pa.binary())}), model)
    else:
        model.touch()
    weight = model.stat().st_size
    (folder / "in").mkdir()
    (folder / "corpus" / RECEIPTS_FOLDER).mkdir(parents=True)
    for shard in range(shards):
        key = f"{shard:05d}.{kind}"
        os.link(model, folder / "in" / key)
        starts = range(0, size, UNIT_SIZE)
        units += len(starts)
        names = [unit_name(unit_prefix(key), start) for start in starts]
        if kind == "tar":
            rows.append(PlanRow(unit_prefix(key), key, "stream", 0, None, UNIT_SIZE, weight))
        else:
            for name, start in zip(names, starts, strict=True):
                rows.append(PlanRow(name, key, "rows", start, min(start + UNIT_SIZE, size), UNIT_SIZE, weight))
        done = names if shard % 4 else names[: len(names) // 2] if shard % 8 else []
        for name in done:
            _receipt(folder / "corpus" / receipt_file(name), name, key, kind == "tar" and name == names[-1])
    write_plan(str(folder / "corpus"), 1, rows)
    return units


def measure(folder: Path, kind: str) -> dict[str, object]:
    """Seconds and peak memory of what a rerun does before its first unit."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began, cpu = time.perf_counter(), time.process_time()
    corpus = str(folder / "corpus")
    source = open_source(str(folder / "in"))
    rows, _ = read_plans(corpus)
    new = list(source.plan(planned(rows), UNIT_SIZE, None))
    left, skipped = pending(corpus, rows, new)
    source.renewed([row.row for row in left])
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rows": len(rows),
        "new": len(new),
        "rows_left": len(left),
        "skipped_units": skipped,
    }


def _receipt(path: Path, unit_id: str, shard: str, last: bool) -> None:
    unsaid = dict.fromkeys(contract("receipt")["required"])  # by what makes a plan
    path.write_text(json.dumps({**unsaid, "unit_id": unit_id, "shard": shard, "last": last}))


if __name__ == "__main__":
    main()
