"""Letterbox geometry and box frames against Ultralytics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from ultralytics.data.augment import LetterBox
from ultralytics.utils.ops import scale_boxes

from fastsam_batch.masks.boxes import boxes_to_image, letterbox_of, pixel_range


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([64, 416, 640]))
def test_letterbox_has_the_shape_ultralytics_gives(height, width, imgsz):
    assume(max(height, width) / min(height, width) < imgsz)  # beyond, Ultralytics resizes to nothing
    ours = letterbox_of((height, width), imgsz)
    image = np.zeros((height, width, 3), np.uint8)
    theirs = LetterBox((imgsz, imgsz), auto=True, stride=32)(image=image)
    assert theirs.shape[:2] == ours.input_hw
    content = (theirs != 114).any(2)
    assert (int(content.any(1).argmax()), int(content.any(0).argmax())) == (ours.top, ours.left)
    assert (int(content.any(1).sum()), int(content.any(0).sum())) == ours.resized_hw


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**31))
def test_boxes_to_image_as_ultralytics(height, width, seed):
    letterbox = letterbox_of((height, width), 416)
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-5, 420, (8, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corner.min(1), corner.max(1)], 1)
    expected = scale_boxes(letterbox.input_hw, torch.from_numpy(boxes.copy()), (height, width)).numpy()
    np.testing.assert_allclose(boxes_to_image(boxes, letterbox), expected, rtol=1e-5, atol=0.02)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, (0, 10)), (0.2, 9.1, (1, 10)), (-4, 99, (0, 10)), (3.4, 3.6, (4, 4)), (11, 12, (10, 10))],
)
def test_pixel_range_is_the_pixels_whose_index_lies_inside(low, high, expected):
    assert pixel_range(low, high, 10) == expected
    inside = [p for p in range(10) if low <= p < high]
    assert inside == list(range(*expected))
