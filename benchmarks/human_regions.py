"""How many of the regions that people drew on BSDS500's photographs a segmenter finds: everything, not things alone.

python benchmarks/human_regions.py --data BSDS500 --segmenter builtin other.safetensors

`--data` holds `images/*.jpg` and `groundTruth/*.mat`; each person's regions of at least 100 pixels count. Recall at an
IoU of .5 and its mean over .5 to .95 are means over photographs; covering is the mean of the regions' best IoU,
weighted by their areas (Arbelaez et al. 2011, section 2.3.2, of masks that may overlap).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import machine
import numpy as np
import torch
from pycocotools import mask as coco_mask
from scipy.io import loadmat

from fastsam_batch.images import decode_image
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter

MIN_AREA = 100  # pixels
THRESHOLDS = np.arange(0.5, 0.96, 0.05)


def drawn_regions(path: Path) -> list[dict[str, Any]]:
    """Regions of all persons as pycocotools' RLE."""
    maps = [person["Segmentation"][0, 0] for person in loadmat(path)["groundTruth"][0]]
    masks = [labels == label for labels in maps for label in np.unique(labels)]
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks if mask.sum() >= MIN_AREA]


def measure(weights: str, folder: Path, conf: float | None, max_masks: int) -> dict[str, float]:
    """The figures of a segmenter at its own input size, with at most `max_masks` an image."""
    segmenter = Segmenter(find_segmenter(weights).main, conf=conf, max_masks=max_masks)
    recalls, coverings, masks = [], [], []
    for path in sorted((folder / "images").glob("*.jpg")):
        regions = drawn_regions(folder / "groundTruth" / f"{path.stem}.mat")
        found = [rle.to_coco() for rle in segmenter.segment([decode_image(path.read_bytes())])[0].rles]
        ious = np.asarray(coco_mask.iou(found, regions, [0] * len(regions))) if found else np.zeros((1, len(regions)))
        # One by one: of more than 255 at once it raises (pycocotools 2.0, NumPy 2).
        best, areas = ious.max(axis=0), np.array([coco_mask.area(region) for region in regions])
        recalls.append([(best >= threshold).mean() for threshold in THRESHOLDS])
        coverings.append((best * areas).sum() / areas.sum())
        masks.append(len(found))
    table = np.array(recalls)
    figures = {
        "masks_an_image": np.mean(masks),
        "recall50": table[:, 0].mean(),
        "recall": table.mean(),
        "covering": np.mean(coverings),
    }
    return {"photographs": len(masks), **{name: round(float(value), 3) for name, value in figures.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--segmenter", nargs="+", default=["builtin"])
    parser.add_argument("--conf", type=float, nargs="+", default=[0.003, 0.1])
    parser.add_argument("--max-masks", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    found = [
        {"segmenter": weights, "conf": conf, **measure(weights, options.data, conf, options.max_masks)}
        for weights in options.segmenter
        for conf in options.conf
    ]
    print(json.dumps({"machine": machine.name(), "found": found}))


if __name__ == "__main__":
    main()
