"""The second reference: the same as benchmarks/reference_loop.py inside Ray Data, as its batch-inference guide shows.

`read_images`, `map_batches` with an actor pool, `write_parquet`. An actor a core, and `--batch-size` images a call.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
from PIL import Image
from reference_loop import Reference


class Actor:
    """One replica of both models."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.reference = Reference(options.segmenter, options.embedder, options.crop, **options.thresholds)
        self.reference.segment_photograph("", Image.new("RGB", (640, 480)))  # set-up, as the loop's

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        began = time.time()
        rows: list[dict] = []
        for path, pixels in zip(batch["path"], batch["image"], strict=True):
            rows.extend(self.reference.segment_photograph(Path(path).name, Image.fromarray(pixels)))
        for row in rows:
            row["began"] = began
            if row["embedding"] is not None:
                row["embedding"] = row["embedding"].astype(np.float16)
        return pa.Table.from_pylist(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="folder of photographs")
    parser.add_argument("--output", required=True, help="folder of Parquet files")
    parser.add_argument("--segmenter", required=True, help="a .pt that FastSAM() loads")
    parser.add_argument("--embedder", required=True, help="a name that open_clip loads")
    parser.add_argument("--crop", choices=("masked", "context", "both"), default="both")
    parser.add_argument("--thresholds", type=json.loads, default={}, help="JSON: imgsz, conf, iou, max_det")
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    ray.init("local", log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": os.path.dirname(__file__)}})
    ray.data.DataContext.get_current().enable_progress_bars = False
    # An actor a core at half a core each: readers and writers need the rest, and wait for ever where there is none.
    pool = ray.data.ActorPoolStrategy(size=max(os.cpu_count() or 1, 1))
    images = ray.data.read_images(options.input, mode="RGB", include_paths=True)
    found = images.map_batches(
        Actor, fn_constructor_args=[options], batch_size=options.batch_size, compute=pool, num_cpus=0.5
    )
    found.write_parquet(options.output)
    ended = time.time()
    written = ray.data.read_parquet(options.output)
    # Without start-up: from the first batch's begin to the end of the writing.
    seconds = ended - float(written.min("began"))
    paths = list(Path(options.input).iterdir())
    print(json.dumps({"images": len(paths), "masks": written.count(), "seconds": seconds}))


if __name__ == "__main__":
    main()
