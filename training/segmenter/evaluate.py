"""The figures: recall of labelled masks among at most 100 proposals an image, as COCO measures proposals."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fastsam_batch.models.segmenter import Segmenter
from training.photographs import Photograph, read_image

MAX_MASKS = 100
CONF = 0.003  # low: what counts is the order
SIZES = ("all", "small", "medium", "large")  # COCO's: below 32 x 32, below 96 x 96, above


def evaluate(
    weights: Path, photographs: list[Photograph], imgsz: int, iou: float = 0.7, device: str = "cpu"
) -> dict[str, float]:
    """Recall at IoU 0.5 by size, AR@100 and AR@10 (IoU 0.5 to 0.95) of a published file, through the segmenter."""
    segmenter = Segmenter(weights, imgsz=imgsz, conf=CONF, iou=iou, max_masks=MAX_MASKS, device=device)
    images, labels, found = [], [], []
    for number, photograph in enumerate(photographs):
        image = read_image(photograph.path)
        images.append({"id": number, "height": image.shape[0], "width": image.shape[1]})
        for thing in photograph.things:
            labels.append(_entry(number, thing.rle.to_coco()) | {"id": len(labels) + 1, "area": thing.area})
        masks = segmenter.segment([image])[0]
        for rle, score in zip(masks.rles, masks.scores, strict=True):
            found.append(_entry(number, rle.to_coco()) | {"score": float(score)})
    figures = recalls(images, labels, found)
    return figures | {"photographs": len(images), "labels": len(labels), "masks_an_image": len(found) / len(images)}


def _entry(image: int, rle: object) -> dict[str, object]:
    return {"image_id": image, "category_id": 1, "segmentation": rle, "iscrowd": 0, "bbox": [0, 0, 1, 1]}


def recalls(
    images: list[dict[str, int]], labels: list[dict[str, object]], found: list[dict[str, object]]
) -> dict[str, float]:
    """The figures of COCO's `images`, `annotations` (one category, 1) and results; 0 where nothing was found."""
    figures = {f"recall50_{size}": 0.0 for size in SIZES} | {"ar100": 0.0, "ar10": 0.0}
    if not found:
        return figures
    truth = COCO()
    truth.dataset = {"images": images, "annotations": labels, "categories": [{"id": 1, "name": "thing"}]}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        truth.createIndex()
        measured = COCOeval(truth, truth.loadRes(found), "segm")
        measured.params.maxDets = [10, MAX_MASKS]
        measured.evaluate()
        measured.accumulate()
    recall = measured.eval["recall"]  # [IoU thresholds, categories, sizes, maxDets]; -1 where nothing is labelled
    figures |= {f"recall50_{size}": float(recall[0, 0, place, 1]) for place, size in enumerate(SIZES)}
    return figures | {"ar100": float(np.mean(recall[:, 0, 0, 1])), "ar10": float(np.mean(recall[:, 0, 0, 0]))}
