"""The slow, obvious mask stage: dense masks by Ultralytics, runs by pycocotools."""

from __future__ import annotations

import numpy as np
import torch
from pycocotools import mask as coco_mask
from ultralytics.utils.ops import process_mask_native


def dense_masks(prototypes, coefficients, boxes_xyxy, image_hw):
    """bool [n, H, W] at image resolution."""
    masks = process_mask_native(
        torch.from_numpy(prototypes), torch.from_numpy(coefficients), torch.from_numpy(boxes_xyxy), image_hw
    )
    return masks.numpy().astype(bool)


def encode_dense(masks):
    """COCO RLE dicts of bool [n, H, W]."""
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


def stability(prototypes, coefficients, boxes_xyxy, image_hw, offset=1.0):
    """float [n]: IoU of the masks at +offset and -offset, by shifting the logits with a constant prototype."""
    constant = np.concatenate([prototypes, np.ones_like(prototypes[:1])])
    areas = []
    for shift in (-offset, offset):
        column = np.full((len(coefficients), 1), shift, np.float32)
        masks = dense_masks(constant, np.concatenate([coefficients, column], 1), boxes_xyxy, image_hw)
        areas.append(masks.sum((1, 2)))
    return areas[0] / np.maximum(areas[1], 1)
