"""Proposals of a segmenter on the forty held-out photographs, under each ranking, as `evaluate proposals` has them.

Once with the weights' own confidence threshold and once with `--low-conf`, which lets weak masks through as a
benchmark of proposals should. No Ray, no embeddings. Writes both tables with the machine's name:

    python benchmarks/proposals.py --data /work/shared/data --output benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastsam_batch.evaluate.coco_files import TruthImage, read_truth_images
from fastsam_batch.evaluate.proposals import RANKS, pair_corpus, proposal_figures
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.images import decode_image
from fastsam_batch.models.pair import load_models
from fastsam_batch.models.segmenter import Segmenter
from training.photographs import held_out_names


def segmented(segmenter: Segmenter, folder: Path, truths: list[TruthImage]) -> Iterator[ExportImage]:
    """The photographs with all their masks, as a corpus would give them."""
    for truth in truths:
        path = folder / truth.file_name
        found = segmenter.segment([decode_image(path.read_bytes())])[0]
        columns = zip(
            found.bboxes_xywh.tolist(),
            found.areas.tolist(),
            found.scores.tolist(),
            found.stability.tolist(),
            found.rles,
            strict=True,
        )
        masks = tuple(
            ExportMask(index, tuple(map(round, box)), area, score, stability, rle)
            for index, (box, area, score, stability, rle) in enumerate(columns)
        )
        yield ExportImage(truth.file_name, str(path), found.image_hw[1], found.image_hw[0], masks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds coco-masks")
    parser.add_argument("--segmenter", default="builtin")
    parser.add_argument("--low-conf", type=float, default=0.01)
    parser.add_argument("--max-masks", type=int, default=1000)
    parser.add_argument("--output", type=Path, help="folder for proposals-MACHINE.json")
    options = parser.parse_args()
    folder = options.data / "coco-masks"
    truths = read_truth_images(str(folder / "instances.json"))
    names = held_out_names([truth.file_name for truth in truths])
    truths = [truth for truth in truths if truth.file_name in names]
    machine = f"{platform.machine()}-{os.cpu_count()}cpu"
    summary: dict[str, Any] = {"machine": machine, "segmenter": options.segmenter, "runs": []}
    for conf in (None, options.low_conf):
        model = {"path": options.segmenter, "conf": conf, "max_masks": options.max_masks}
        segmenter, _ = load_models(model, None, "cpu", None)
        images = list(segmented(segmenter, folder / "images", truths))
        found = proposal_figures(pair_corpus(truths, images, RANKS), ("mask", "box"), options.max_masks)
        for kinds in found["figures"].values():
            for figures in kinds.values():
                del figures["curve"], figures["recall_by_iou"]
        run = {"imgsz": segmenter.imgsz, "conf": segmenter.conf, "iou": segmenter.iou, "max_masks": options.max_masks}
        masks = sum(len(image.masks) for image in images) / len(images)
        summary["runs"].append({**run, "masks_per_image": masks, **found})
    if options.output:
        path = options.output / f"proposals-{machine}.json"
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
