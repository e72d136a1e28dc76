"""The mask stage against dense masks at image resolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks.made_detections import ODD_SHAPES, check, detections
from pycocotools import mask as coco_mask

from fastsam_batch.masks.prototypes import encode_masks


@pytest.mark.parametrize(("image_hw", "imgsz"), ODD_SHAPES)
def test_equals_dense_masks(image_hw, imgsz):
    found = detections(1, 40, image_hw, imgsz)
    check(encode_masks(*found, image_hw), *found, image_hw)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(1, 300), st.sampled_from([64, 96, 160]))
def test_equals_dense_masks_at_any_size(seed, height, width, imgsz):
    found = detections(seed, 6, (height, width), imgsz)
    check(encode_masks(*found, (height, width)), *found, (height, width))


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
