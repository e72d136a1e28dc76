"""The mask stage on a device: on a CPU, where it is only slower, and on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from devices import DEVICES, Largest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks.made_detections import ODD_SHAPES, check, detections

from fastsam_batch.masks.prototypes import EncodedMasks, encode_masks
from fastsam_batch.models import device_masks, segmenter
from fastsam_batch.models.device_masks import encode_masks_on_device
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter


def encoded(found, image_hw, device="cpu") -> EncodedMasks:
    prototypes, coefficients, boxes = found
    return encode_masks_on_device(torch.from_numpy(prototypes).to(device), coefficients, boxes, image_hw)


def assert_same(one: EncodedMasks, other: EncodedMasks) -> None:
    assert one.kept.tolist() == other.kept.tolist()
    assert one.counts == other.counts
    assert one.areas.tolist() == other.areas.tolist()
    np.testing.assert_array_equal(one.bboxes_xywh, other.bboxes_xywh)
    np.testing.assert_array_equal(one.stability, other.stability)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("image_hw", "imgsz"), ODD_SHAPES)
def test_equals_dense_masks(image_hw, imgsz, device):
    found = detections(1, 40, image_hw, imgsz)
    check(encoded(found, image_hw, device), *found, image_hw)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(1, 300), st.sampled_from([64, 96, 160]))
def test_equals_dense_masks_at_any_size(seed, height, width, imgsz):
    found = detections(seed, 6, (height, width), imgsz)
    check(encoded(found, (height, width)), *found, (height, width))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(1, 200))
def test_equals_the_host_in_every_edge(seed, height, width):
    """Logits that no order of sums rounds: whole numbers."""
    rng = np.random.default_rng(seed)
    prototypes, _, boxes = detections(seed, 6, (height, width), 96)
    prototypes = np.round(prototypes * 4)
    coefficients = rng.integers(-3, 4, (6, 32)).astype(np.float32)
    assert_same(
        encoded((prototypes, coefficients, boxes), (height, width)),
        encode_masks(prototypes, coefficients, boxes, (height, width)),
    )


@pytest.mark.parametrize("places", [1, 5_000])
def test_some_masks_at_a_time_are_the_same(monkeypatch, places):
    found = detections(2, 30, (120, 90), 96)
    at_once = encoded(found, (120, 90))
    monkeypatch.setattr(device_masks, "_PLACES_AT_ONCE", places)
    assert_same(encoded(found, (120, 90)), at_once)


def test_many_small_masks_are_made_some_at_a_time():
    """Their profiles are short, but each has logits in all of the prototypes' cells before."""
    prototypes, box = np.zeros((32, 256, 256), np.float32), np.array([[4, 4, 9, 9]], np.float32)
    found = prototypes, np.zeros((900, 32), np.float32), np.tile(box, (900, 1))
    with Largest() as largest:
        assert encoded(found, (1024, 1024)).counts == []
    assert largest.bytes < 200e6


def test_no_detections_and_none_with_a_pixel():
    for found in (detections(0, 0, (48, 64), 64), (np.full((32, 16, 16), -1, np.float32), *whole_frame(64))):
        ours = encoded(found, (64, 64))
        assert ours.counts == [] and ours.bboxes_xywh.shape == (0, 4)
        assert ours.kept.shape == ours.areas.shape == ours.stability.shape == (0,)


def test_a_whole_frame_is_one_run():
    ours = encoded((np.ones((32, 16, 16), np.float32), *whole_frame(64)), (64, 64))
    assert ours.areas.tolist() == [64 * 64] and ours.bboxes_xywh.tolist() == [[0, 0, 64, 64]]
    assert ours.stability.tolist() == [1]


def whole_frame(side: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ones((1, 32), np.float32), np.array([[0, 0, side, side]], np.float32)


def test_masks_are_made_here_where_the_device_has_no_memory_left(monkeypatch):
    image = skimage.data.coffee()[::2, ::2]
    on_cpu = Segmenter(find_segmenter("builtin").main, imgsz=160)
    detected = on_cpu.detect([image])[0]
    expected = on_cpu.masks(detected)
    assert expected.rles
    on_gpu = Segmenter(find_segmenter("builtin").main, imgsz=160)
    on_gpu.device = torch.device("cuda")  # for the mask stage, which goes by it
    assert on_gpu.masks(detected).rles == expected.rles and on_gpu.oom_retries == 0

    def full(*arguments):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(segmenter, "encode_masks_on_device", full)
    assert on_gpu.masks(detected).rles == expected.rles and on_gpu.oom_retries == 1
