"""The mask stage against dense masks at image resolution."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from reference.masks import dense_masks, encode_dense, stability

from fastsam_batch.masks.boxes import letterbox_of
from fastsam_batch.masks.prototypes import encode_masks


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


def check(prototypes, coefficients, boxes, image_hw):
    dense = dense_masks(prototypes, coefficients, boxes, image_hw)
    ours = encode_masks(prototypes, coefficients, boxes, image_hw)
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


@pytest.mark.parametrize(
    ("image_hw", "imgsz"),
    [
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
    ],
)
def test_equals_dense_masks(image_hw, imgsz):
    check(*detections(1, 40, image_hw, imgsz), image_hw)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(1, 300), st.sampled_from([64, 96, 160]))
def test_equals_dense_masks_at_any_size(seed, height, width, imgsz):
    check(*detections(seed, 6, (height, width), imgsz), (height, width))


def test_no_detections():
    prototypes, coefficients, boxes = detections(0, 0, (48, 64), 64)
    ours = encode_masks(prototypes, coefficients, boxes, (48, 64))
    assert ours.counts == [] and ours.bboxes_xywh.shape == (0, 4) and ours.stability.shape == (0,)


def test_mask_of_the_whole_frame_is_one_run():
    prototypes = np.full((32, 16, 16), 1.0, np.float32)
    ours = encode_masks(prototypes, np.ones((1, 32), np.float32), np.array([[0, 0, 64, 64]], np.float32), (64, 64))
    assert ours.areas.tolist() == [64 * 64]
    assert ours.bboxes_xywh.tolist() == [[0, 0, 64, 64]]
    assert coco_mask.decode({"size": [64, 64], "counts": ours.counts[0]}).all()
    assert ours.stability.tolist() == [1.0]


def test_mask_that_is_nowhere_is_left_out():
    prototypes = np.full((32, 16, 16), -1.0, np.float32)
    boxes = np.array([[0, 0, 64, 64]], np.float32)
    assert encode_masks(prototypes, np.ones((1, 32), np.float32), boxes, (64, 64)).counts == []
