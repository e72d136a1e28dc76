"""Detections made up, and what the mask stage must make of them."""

from __future__ import annotations

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from reference.masks import dense_masks, encode_dense, stability

from fastsam_batch.masks.boxes import letterbox_of

ODD_SHAPES = [
    ((480, 640), 416),
    ((640, 427), 416),
    ((333, 500), 640),  # padding that no prototype pixel divides
    ((97, 331), 416),
    ((700, 500), 1024),
    ((1, 1), 416),
    ((2, 3000), 416),
    ((3000, 2), 416),
    ((13, 7), 64),
    ((900, 1200), 64),
]


def detections(seed: int, n: int, image_hw: tuple[int, int], imgsz: int):
    """Smooth random prototypes with sharp and flat parts, and boxes of every size, some past the border."""
    rng = np.random.default_rng(seed)
    proto_h, proto_w = (side // 4 for side in letterbox_of(image_hw, imgsz).input_hw)
    prototypes = np.empty((32, proto_h, proto_w), np.float32)
    for plane in prototypes:
        coarse = rng.integers(2, 20)
        grid = rng.normal(size=(max(proto_h // coarse, 2), max(proto_w // coarse, 2))).astype(np.float32)
        plane[:] = cv2.resize(grid, (proto_w, proto_h), interpolation=cv2.INTER_CUBIC)
    coefficients = rng.normal(size=(n, 32)).astype(np.float32)
    size = np.exp(rng.uniform(np.log(0.01), np.log(1.2), (n, 2))) * image_hw[::-1]
    centre = rng.uniform(size=(n, 2)) * image_hw[::-1]
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1)
    boxes = np.clip(boxes, 0, [*image_hw[::-1]] * 2).astype(np.float32)
    return prototypes, coefficients, boxes


def check(ours, prototypes, coefficients, boxes, image_hw):
    """Encoded masks against the reference: at most a pixel in two thousand differs."""
    dense = dense_masks(prototypes, coefficients, boxes, image_hw)
    size = list(image_hw)
    rles = [{"size": size, "counts": counts} for counts in ours.counts]
    assert set(ours.kept) <= set(np.flatnonzero(dense.any((1, 2))))
    missed = dense.sum() - dense[ours.kept].sum()
    assert missed <= 2  # a mask of a pixel or two may sit on the threshold
    for rle, reference in zip(rles, encode_dense(dense[ours.kept]), strict=True):
        differ = np.count_nonzero(coco_mask.decode(rle) != coco_mask.decode(reference))
        assert differ <= max(1, 0.0005 * coco_mask.area(reference))
    assert [int(coco_mask.area(rle)) for rle in rles] == ours.areas.tolist()
    assert [coco_mask.toBbox(rle).tolist() for rle in rles] == ours.bboxes_xywh.tolist()
    expected = stability(prototypes, coefficients, boxes, image_hw)[ours.kept]
    assert (np.abs(ours.stability - expected) <= 2 / ours.areas + 1e-3).all()
