"""Crops made on a device against those made here: on a CPU, where they are only slower, and on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from devices import DEVICES, Largest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from fastsam_batch.embed_queue import MASKS_TOGETHER_ON_GPU
from fastsam_batch.masks.rle import Rle
from fastsam_batch.models import embedder as embedders
from fastsam_batch.models.crops import CROP_KINDS, image_pyramid, mask_crop, mask_share, place_of
from fastsam_batch.models.device_crops import ImageSums, mask_crops
from fastsam_batch.models.device_shares import mask_shares
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter

FILL = np.array([122, 116, 104], np.uint8)


def ellipses(rng: np.random.Generator, hw: tuple[int, int], count: int) -> tuple[list[Rle], np.ndarray]:
    """Masks of all sizes, some cut by the border, with their tight boxes."""
    rles, boxes = [], []
    y, x = np.mgrid[: hw[0], : hw[1]]
    while len(rles) < count:
        centre, radius = rng.uniform(0, hw), np.maximum(rng.uniform(0.01, 0.6, 2) * hw, 0.6)
        mask = ((np.stack([y, x], -1) - centre) ** 2 / radius**2).sum(-1) <= 1
        if mask.any():
            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            rles.append(Rle(hw, rle["counts"].decode()))
            boxes.append(coco_mask.toBbox(rle))
    return rles, np.array(boxes, np.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", CROP_KINDS["both"])
@pytest.mark.parametrize("size", [80, 224])
def test_crops_are_those_of_the_host(device, kind, size):
    image = skimage.data.coffee()
    rles, boxes = ellipses(np.random.default_rng(size), image.shape[:2], 12)
    ours = mask_crops(ImageSums.of(image, torch.device(device)), rles, boxes, size, FILL, [kind]).cpu().numpy()[0]
    assert ours.shape == (12, size, size, 3) and ours.dtype == np.uint8
    for crop, rle, box in zip(ours, rles, boxes, strict=True):
        # The image itself and not a level of its pyramid: all that is left is rounding, of values and of shares.
        differ = np.abs(crop.astype(int) - mask_crop([image], rle, box, size, FILL, kind))
        assert differ.max() <= 3 and differ.mean() < 0.6
        from_level = mask_crop(image_pyramid(image, size), rle, box, size, FILL, kind)
        assert np.abs(crop.astype(int) - from_level).mean() < 4


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([16, 33]),
    st.sampled_from(CROP_KINDS["both"]),
)
def test_crops_of_any_image(seed, height, width, size, kind):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    rles, boxes = ellipses(rng, (height, width), 3)
    ours = mask_crops(ImageSums.of(image, torch.device("cpu")), rles, boxes, size, FILL, [kind]).numpy()[0]
    for crop, rle, box in zip(ours, rles, boxes, strict=True):
        differ = np.abs(crop.astype(int) - mask_crop([image], rle, box, size, FILL, kind))
        one_way = (box[2] > size) != (box[3] > size)  # OpenCV shrinks one side and interpolates the other
        assert one_way or differ.max() <= 4


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 120), st.integers(1, 120), st.sampled_from([16, 33, 80]))
def test_shares_of_any_masks(seed, height, width, size):
    """Those of pixels no smaller than the image's are exact; enlarged ones are rounded here and there."""
    rng = np.random.default_rng(seed)
    rles, boxes = ellipses(rng, (height, width), 3)
    for mask in (np.ones((height, width)), rng.random((height, width)) < 0.5, np.arange(width)[None] >= width // 2):
        rle = coco_mask.encode(np.asfortranarray(np.broadcast_to(mask, (height, width)).astype(np.uint8)))
        if coco_mask.area(rle):
            rles.append(Rle((height, width), rle["counts"].decode()))
            boxes = np.vstack([boxes, coco_mask.toBbox(rle)]).astype(np.float32)
    places = [place_of(box, (height, width), size, "masked") for box in boxes]
    shares = mask_shares(rles, places, size, torch.device("cpu")).numpy()
    for share, place, rle, box in zip(shares, places, rles, boxes, strict=True):
        (rows, columns), expected = place.crop_hw, np.zeros((size, size), np.float32)
        within = expected[place.top : place.top + rows, place.left : place.left + columns]
        within[:] = mask_share(rle, box, place.crop_hw)
        exact = rows <= box[3] and columns <= box[2]
        one_way = (rows < box[3]) != (columns < box[2])  # OpenCV shrinks one side and interpolates the other
        if exact or not one_way:
            np.testing.assert_allclose(share, expected, atol=1e-5 if exact else 1.1 / 255)


def test_crops_of_all_kinds_come_in_their_order():
    image = skimage.data.coffee()
    rles, boxes = ellipses(np.random.default_rng(0), image.shape[:2], 5)
    sums = ImageSums.of(image, torch.device("cpu"))
    kinds = CROP_KINDS["both"]
    alone = [mask_crops(sums, rles, boxes, 80, FILL, [kind])[0] for kind in kinds]
    assert torch.equal(mask_crops(sums, rles, boxes, 80, FILL, kinds), torch.stack(alone))
    assert mask_crops(sums, [], boxes[:0], 80, FILL, kinds).shape == (2, 0, 80, 80, 3)


def test_crops_of_many_masks_are_made_some_at_a_time():
    """Where a crop has many pixels, what all of a task's take together would not fit beside those of other threads."""
    hw, size = (300, 400), 336
    whole = coco_mask.encode(np.ones(hw, np.uint8, order="F"))["counts"].decode()
    image = ImageSums.of(np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8), torch.device("cpu"))
    boxes = np.tile(np.array([[0, 0, 400, 300]], np.float32), (MASKS_TOGETHER_ON_GPU, 1))
    with Largest() as largest:
        crops = mask_crops(image, [Rle(hw, whole)] * len(boxes), boxes, size, FILL, CROP_KINDS["both"])
    assert (crops == crops[:, :1]).all()
    assert largest.bytes < 100e6


def test_vectors_are_those_of_the_host(monkeypatch):
    """Through the embedder, whose crops are made on its device, and here where that has no memory left."""
    image = skimage.data.coffee()
    embedder = Embedder("builtin", precision="float32")
    found = Segmenter(find_segmenter("builtin").main, conf=0.05).segment([image])[0]

    def vectors() -> np.ndarray:
        crops = list(embedder.crops_of(embedder.crop_source(image), found.rles, found.bboxes_xywh, "both"))
        assert len(crops) == len(found.rles) and all(len(pair) == 2 for pair in crops)
        return embedder.embed_crops([crop for pair in crops for crop in pair])

    expected = vectors()
    on_cpu = ImageSums.of
    monkeypatch.setattr(embedders.ImageSums, "of", lambda pixels, _: on_cpu(pixels, torch.device("cpu")))
    embedder.device = torch.device("cuda")  # where crops go by it; the model stays
    monkeypatch.setattr(embedder, "_pixels", lambda images: Embedder._pixels(on(embedder, "cpu"), images))
    cosines = (vectors() * expected).sum(1)
    assert cosines.min() > 0.98 and np.median(cosines) > 0.999

    def full(*arguments):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    assert embedder.oom_retries == 0
    for retries, (owner, name) in enumerate([(embedders, "mask_crops"), (embedders.ImageSums, "of")], 1):
        monkeypatch.setattr(owner, name, full)
        np.testing.assert_allclose(vectors(), expected, atol=1e-5)
        assert embedder.oom_retries == retries


def on(embedder: Embedder, device: str) -> Embedder:
    """The same embedder that takes itself to be elsewhere."""
    other = object.__new__(Embedder)
    other.__dict__.update(embedder.__dict__, device=torch.device(device))
    return other
