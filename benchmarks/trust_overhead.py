"""What trust costs: attempts, digests, synced atomic writes and receipts, as a share of the time of making a corpus.

Units of demo photographs go through the models and are committed, without Ray. What is counted as trust is all that a
writer who only wants the two Parquet files would leave out: the images' SHA-256, the notes of attempts, the
files' digests, `fsync` and renaming, and the receipt. The default unit of 10 images is far smaller than the job's 128,
so the share is on the high side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import tempfile
import time
from pathlib import Path

from fastsam_batch.corpus.attempts import begin_attempt, end_attempts, is_newest
from fastsam_batch.corpus.info import describe
from fastsam_batch.corpus.rows import with_footer
from fastsam_batch.corpus.write import commit_unit, parquet_bytes
from fastsam_batch.models.pair import load_models
from fastsam_batch.sources import open_source
from fastsam_batch.sources.base import Planned
from fastsam_batch.unit import UnitOptions, process_unit


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=5, help="of the ten demo photographs")
    parser.add_argument("--unit-size", type=int, default=10)
    options = parser.parse_args()
    demo = open_source("demo:")
    rows = list(demo.plan(Planned(), options.unit_size, None))
    units = [unit for row in rows for unit in demo.read(row, ())]
    models = load_models({"path": "builtin"}, {"name": "builtin"}, "cpu", None)
    process_unit(units[0], *models, UnitOptions())
    about = {"segmenter": {"name": "builtin", "sha256": {}, "licence": ""}, "embedder": None}
    processing = trust = plain = 0.0
    with tempfile.TemporaryDirectory() as folder:
        info = describe("demo:", {}, about, models[1].dim if models[1] else None)
        for _ in range(options.copies):
            for unit in units:
                began = time.perf_counter()
                result = process_unit(unit, *models, UnitOptions())
                processing += time.perf_counter() - began

                began = time.perf_counter()
                for name, table in (("masks", result.masks), ("images", result.images)):
                    data = parquet_bytes(with_footer(table, name, info.fingerprint, info.models))
                    Path(folder, f"plain-{name}").write_bytes(data)
                plain += time.perf_counter() - began

                began = time.perf_counter()
                attempt = begin_attempt(folder, unit.unit_id, "bench")
                is_newest(folder, unit.unit_id, attempt.name)
                commit_unit(folder, info, result)
                end_attempts(folder, unit.unit_id)
                trust += time.perf_counter() - began

                began = time.perf_counter()
                for image in unit.images:
                    hashlib.sha256(image.data or b"").hexdigest()
                hashing = time.perf_counter() - began
                trust += hashing
                processing -= hashing  # it was in there
    extra = trust - plain
    print(
        json.dumps(
            {
                "images": options.copies * sum(len(unit.images) for unit in units),
                "unit_size": options.unit_size,
                "processing_seconds": round(processing, 3),
                "plain_write_seconds": round(plain, 3),
                "trust_seconds": round(extra, 3),
                "share": round(extra / (processing + plain + extra), 5),
                "machine": platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
