"""CPU seconds an image, one thread: the reference loop against a unit of ours, without Ray, alternating in one run.

For machines that others use too: CPU time is far less troubled by them than the clock. Says nothing of how well a
second core is used; benchmarks/pipeline.py does, on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import cv2
import machine
import torch
from made_models import fastsam_checkpoint
from made_photographs import make_photographs
from PIL import Image
from reference_loop import Reference

from fastsam_batch.models.pair import load_models
from fastsam_batch.models.weights import BUILTIN_FOLDER
from fastsam_batch.sources.base import EncodedImage, UnitBytes
from fastsam_batch.unit import UnitOptions, process_unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--long-side", type=int, help="enlarge the photographs; default: as they ship")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    segmenter, embedder = load_models({"path": "builtin"}, {"name": "builtin"}, "cpu", 1)
    thresholds = {"imgsz": segmenter.imgsz, "conf": segmenter.conf, "iou": segmenter.iou, "max_det": 300}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_photographs(folder / "photos", options.images, options.long_side)
        weights = str(fastsam_checkpoint(folder / "FastSAM-builtin.pt"))
        reference = Reference(weights, f"local-dir:{BUILTIN_FOLDER / 'clip'}", "both", **thresholds)
        paths = sorted((folder / "photos").iterdir())
        unit = UnitBytes("u", "", False, tuple(EncodedImage(p.name, str(p), p.read_bytes()) for p in paths))
        reference.segment_photograph("", Image.open(paths[0]).convert("RGB"))
        process_unit(UnitBytes("u", "", False, unit.images[:1]), segmenter, embedder, UnitOptions())
        seconds = []
        for _ in range(options.rounds):
            began = time.process_time()
            for path in paths:
                reference.segment_photograph(path.name, Image.open(path).convert("RGB"))
            between = time.process_time()
            process_unit(unit, segmenter, embedder, UnitOptions())
            seconds.append((between - began, time.process_time() - between))
    summary = {
        "machine": f"{machine.name()}, one thread",
        "long_side": options.long_side,
        "images": options.images,
        "reference_cpu_seconds_per_image": [round(theirs / options.images, 4) for theirs, _ in seconds],
        "our_cpu_seconds_per_image": [round(ours / options.images, 4) for _, ours in seconds],
        "ratio": [round(theirs / ours, 2) for theirs, ours in seconds],
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
