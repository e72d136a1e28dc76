"""A corpus's masks of one image, ready for prompts, or to be measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastsam_batch.evaluate.coco_files import Objects
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.masks.select import ImageMasks


def stored_masks(image: ExportImage) -> ImageMasks:
    """The masks as `masks.select` takes them, none parsed yet; a mask's place is that in `image.masks`."""
    return ImageMasks(
        (image.height, image.width),
        [mask.rle.counts for mask in image.masks],
        np.array([mask.area for mask in image.masks], np.int64),
        np.array([mask.bbox_xywh for mask in image.masks], np.float64),
    )


def mask_objects(masks: Sequence[ExportMask], scores: Sequence[float], categories: Sequence[int]) -> Objects:
    """The masks as found objects, each with its score and category."""
    return Objects(
        rles=[mask.rle.to_coco() for mask in masks],
        boxes_xywh=np.array([mask.bbox_xywh for mask in masks], np.float64).reshape(-1, 4),
        areas=np.array([mask.area for mask in masks], np.float64),
        crowd=np.zeros(len(masks), np.bool_),
        categories=np.array(categories, np.int64),
        scores=np.array(scores, np.float64),
    )
