"""Instance segmentation by box prompts: detections of any program choose among stored masks.

Method: FastSAM (Zhao et al. 2023), section 4.4: boxes with classes and scores of a detector (there ViTDet) select
the mask that overlaps each best, and COCO's mask AP is taken, by category.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from fastsam_batch.errors import InputError
from fastsam_batch.evaluate.coco_files import Objects
from fastsam_batch.evaluate.proposals import Pair, only_category, precision_figures
from fastsam_batch.evaluate.recall import Tally
from fastsam_batch.evaluate.stored import mask_objects, stored_masks
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.masks.select import match_box

RANKING = "detector"


def check_detections(detections: Mapping[int, Sequence[dict[str, Any]]], images: Set[int], names: Set[int]) -> None:
    """Raise InputError where none is of a labelled image or of a category, for both files must count them alike."""
    if not detections.keys() & images:
        raise InputError("--detections holds no image_id of the ground truth; both must count images alike")
    if not any(float(row["category_id"]) in names for rows in detections.values() for row in rows):
        raise InputError("--detections holds no category_id of the ground truth; both must count categories alike")


def prompted_objects(image: ExportImage | None, rows: Sequence[dict[str, Any]]) -> Objects:
    """The masks that detections (COCO results rows with `bbox`) choose; a box without a mask chooses none.

    `score` and `category_id` stay the detector's. Raises InputError for a row without a box.
    """
    stored = None if image is None else stored_masks(image)
    chosen: list[tuple[dict[str, Any], ExportMask]] = []
    for row in rows:
        if not row.get("bbox"):
            raise InputError("--detections has a row without bbox; boxes are what chooses the masks")
        x, y, width, height = row["bbox"]
        box = float(x), float(y), float(x + width), float(y + height)
        if image is not None and stored is not None and _covers_a_pixel(box, stored.size_hw):
            mask = match_box(stored, box).mask
            if mask is not None:
                chosen.append((row, image.masks[mask]))
    scores, categories = ([row[name] for row, _ in chosen] for name in ("score", "category_id"))
    return mask_objects([mask for _, mask in chosen], scores, categories)


def instance_figures(pairs: Iterable[Pair], names: dict[int, str], max_det: int) -> dict[str, Any]:
    """AP, AP50, AP75 and AP by size over the categories `names`, and each category's own AP.

    `max_det` objects of a category count in an image. Categories without a labelled object are left out.
    """
    tallies = {category: Tally(max_det) for category in names}
    images = found = 0
    for truth_image, by_ranking in pairs:
        truth, objects = truth_image.objects(), by_ranking[RANKING]
        images += 1
        found += len(objects.scores)
        for category in np.union1d(truth.categories, objects.categories).tolist():
            if category in tallies:
                tallies[category].add(only_category(truth, category), only_category(objects, category), "mask")
    own = {category: tally.precision() for category, tally in tallies.items() if tally.truths[0]}
    if not own:
        raise InputError("--ground-truth labels no object of its categories")
    stacked = np.stack(list(own.values()))
    labelled = ~np.isnan(stacked)
    # A size that a category has no object of must not count as a zero.
    mean = np.where(labelled.any(0), np.where(labelled, stacked, 0).sum(0) / np.maximum(labelled.sum(0), 1), np.nan)
    return {
        "images": images,
        "truths": int(sum(tally.truths[0] for tally in tallies.values())),
        "prompted": found,
        **precision_figures(mean),
        "by_category": {names[category]: precision_figures(values)["AP"] for category, values in own.items()},
    }


def _covers_a_pixel(box_xyxy: tuple[float, float, float, float], size_hw: tuple[int, int]) -> bool:
    """Whether `match_box` finds a whole pixel in a detector's box, which may lie outside the image."""
    (x1, y1, x2, y2), (height, width) = box_xyxy, size_hw
    return max(round(x1), 0) < min(round(x2), width) and max(round(y1), 0) < min(round(y2), height)
