"""The whole pipeline against both references, paired in one run: photographs in, Parquet out, on this machine's cores.

Each of `--rounds` runs the job (in every mode asked for), the reference loop and the Ray Data reference one after
the other, each in a process of its own, with the same weights and photographs. Start-up (processes, models, Ray)
is left out of all. Figures are medians over rounds of the ratio within a round; the masks and embeddings that came
out are compared too. Photographs are those that ship in installed packages, as they are or enlarged to `--long-side`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
import numpy as np
import pyarrow.parquet as pq
import torch
from made_models import fastsam_checkpoint
from made_photographs import make_photographs
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import BUILTIN_FOLDER

HERE = Path(__file__).parent


def run(script: str, *arguments: str) -> dict:
    """The JSON on the last line that a Python script prints."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    summary: dict = json.loads(done.stdout.splitlines()[-1])
    return summary


def agreement(corpus: Corpus, reference: list[dict]) -> dict[str, float]:
    """Share of the reference's masks that a mask of ours matches at IoU 0.95, and the matched embeddings' cosine."""
    ours = corpus.masks(["image_id", "rle", "embedding"]).to_pylist()
    good, cosines = 0, []
    for image_id in {row["image_id"] for row in reference}:
        here = [row for row in ours if row["image_id"] == image_id]
        there = [row for row in reference if row["image_id"] == image_id]
        if not here:
            continue
        ious = np.asarray(coco_mask.iou([r["rle"] for r in here], [r["rle"] for r in there], [0] * len(there)))
        for a, b in zip(*linear_sum_assignment(-ious), strict=True):
            good += bool(ious[a, b] >= 0.95)
            if ious[a, b] >= 0.95 and here[a]["embedding"] is not None and there[b]["embedding"] is not None:
                cosines.append(float(np.dot(np.float32(here[a]["embedding"]), np.float32(there[b]["embedding"]))))
    return {
        "masks_ours": len(ours),
        "masks_reference": len(reference),
        "matched_share": round(good / max(len(reference), 1), 4),
        "cosine_median": round(statistics.median(cosines), 4) if cosines else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--long-side", type=int, help="enlarge the photographs; default: as they ship")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--crop",
        choices=("masked", "context", "both"),
        default="both",
        help="of all but ours pooled, which has its own",
    )
    parser.add_argument("--modes", nargs="+", default=["crop", "pool"], help="our embedding modes")
    parser.add_argument("--conf", type=float, help="confidence for all, for more masks or fewer")
    parser.add_argument("--segmenter", default="builtin", help="ours; the references get the built-in weights as a .pt")
    parser.add_argument("--without-ray", action="store_true", help="leave the Ray Data reference out")
    options = parser.parse_args()
    builtin = Segmenter(BUILTIN_FOLDER / "segmenter.safetensors")
    conf = builtin.conf if options.conf is None else options.conf
    thresholds = {"imgsz": builtin.imgsz, "conf": conf, "iou": builtin.iou, "max_det": builtin.max_masks}
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_photographs(folder / "photos", options.images, options.long_side)
        reference = [
            *("--input", str(folder / "photos"), "--crop", options.crop),
            *("--segmenter", str(fastsam_checkpoint(folder / "FastSAM-builtin.pt"))),
            *("--embedder", f"local-dir:{BUILTIN_FOLDER / 'clip'}", "--thresholds", json.dumps(thresholds)),
        ]
        for number in range(options.rounds):
            for mode in options.modes:
                summary = run(
                    "../jobs/segment_corpus.py",
                    *("--input", str(folder / "photos"), "--output", str(folder / f"{mode}-{number}")),
                    *("--segmenter", options.segmenter, "--conf", str(conf)),
                    *(("--crop", options.crop) if mode == "crop" else ("--embedding-mode", mode)),
                )
                seconds.setdefault(mode, []).append(summary["images"] / summary["images_per_second"])
            loop = run("reference_loop.py", *reference, "--output", str(folder / "loop.parquet"))
            seconds.setdefault("loop", []).append(loop["seconds"])
            if not options.without_ray:
                in_ray = run("reference_ray_data.py", *reference, "--output", str(folder / f"ray-{number}"))
                seconds.setdefault("ray_data", []).append(in_ray["seconds"])
        rows = pq.read_table(folder / "loop.parquet").to_pylist()
        same = agreement(Corpus.open(str(folder / f"{options.modes[0]}-0")), rows)
    ratios = {
        f"{other}_over_{mode}": round(
            statistics.median(b / a for a, b in zip(seconds[mode], seconds[other], strict=True)), 2
        )
        for mode in options.modes
        for other in ("loop", "ray_data")
        if other in seconds
    }
    print(
        json.dumps(
            {
                "machine": machine.name(),
                "load_average": round(os.getloadavg()[0], 1),
                "torch": torch.__version__,
                "segmenter": options.segmenter,
                "crop": options.crop,
                "conf": conf,
                "images": options.images,
                "long_side": options.long_side,
                "masks_per_image": round(len(rows) / options.images, 1),
                "seconds_per_image": {
                    name: [round(value / options.images, 4) for value in values] for name, values in seconds.items()
                },
                **ratios,
                **same,
            }
        )
    )


if __name__ == "__main__":
    main()
