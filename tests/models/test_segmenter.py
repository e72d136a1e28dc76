"""Everything mode against Ultralytics' own predictor, and a batch against its single images."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
import torch
from pycocotools import mask as coco_mask
from reference.checkpoints import official_checkpoint
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_sample_image
from ultralytics import FastSAM
from ultralytics.models.fastsam.utils import adjust_bboxes_to_image_border
from ultralytics.nn.modules import DFL

from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter

OPTIONS = {"conf": 0.1, "iou": 0.7}


def photographs():
    return {
        "astronaut": skimage.data.astronaut(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
        "china": load_sample_image("china.jpg"),
        "odd size": load_sample_image("flower.jpg")[:397, :583],
        "tall": np.ascontiguousarray(skimage.data.coffee()[:, 100:250]),
        "small": np.ascontiguousarray(skimage.data.chelsea()[60:160, 100:231]),
    }


def moved_to_the_border(boxes_xyxy, image_hw):
    """What FastSAMPredictor does to boxes once their masks are made; a corpus stores the masks' own."""
    height, width = image_hw
    boxes = adjust_bboxes_to_image_border(torch.from_numpy(boxes_xyxy.copy()), image_hw).numpy()
    boxes[(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > 0.9 * height * width] = (0, 0, width, height)
    return boxes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return official_checkpoint(tmp_path_factory.mktemp("weights") / "official.pt", half=False)


@pytest.mark.parametrize(("imgsz", "iou"), [(416, 0.7), (416, 0.9), (1024, 0.7)])
def test_agrees_with_ultralytics_fastsam(checkpoint, imgsz, iou):
    ours = Segmenter(checkpoint, imgsz=imgsz, conf=0.1, iou=iou, max_masks=1000)
    theirs = FastSAM(str(checkpoint))
    pairs, matched = 0, 0
    for name, image in photographs().items():
        detected = ours.detect([image])[0]
        found = ours.masks(detected)
        result = theirs(
            image[..., ::-1],
            imgsz=imgsz,
            conf=0.1,
            iou=iou,
            max_det=1000,
            retina_masks=True,
            device="cpu",
            verbose=False,
        )[0]
        assert len(found.rles) == len(result), name
        if not found.rles:
            continue
        rles = [rle.to_coco() for rle in found.rles]
        reference = [coco_mask.encode(np.asfortranarray(m)) for m in result.masks.data.numpy().astype(np.uint8)]
        ious = np.asarray(coco_mask.iou(rles, reference, [0] * len(reference)))
        rows, columns = linear_sum_assignment(-ious)
        np.testing.assert_allclose(found.scores[rows], result.boxes.conf.numpy()[columns], atol=0.01)
        boxes = moved_to_the_border(detected.boxes_xyxy[np.isin(detected.scores, found.scores)], image.shape[:2])
        assert (np.abs(boxes[rows] - result.boxes.xyxy.numpy()[columns]).max(1) < 1).mean() >= 0.99
        pairs += len(rows)
        matched += int((ious[rows, columns] >= 0.95).sum())
    assert pairs >= 30
    assert matched / pairs >= 0.99


def test_a_batch_equals_its_single_images():
    images = list(photographs().values()) * 2
    path = find_segmenter("builtin").main
    single, batched = Segmenter(path, **OPTIONS), Segmenter(path, batch_size=4, **OPTIONS)
    for image, found in zip(images, batched.segment(images), strict=True):
        alone = single.segment([image])[0]
        assert len(alone.rles) == len(found.rles)
        np.testing.assert_allclose(alone.scores, found.scores, atol=1e-5)
        ious = [
            coco_mask.iou([a.to_coco()], [b.to_coco()], [0])[0, 0] for a, b in zip(alone.rles, found.rles, strict=True)
        ]
        assert min(ious) > 0.999


def test_what_a_segmentation_holds():
    segmenter = Segmenter(find_segmenter("builtin").main, conf=0.05, max_masks=20)
    for image, found in zip(photographs().values(), segmenter.segment(list(photographs().values())), strict=True):
        assert found.image_hw == image.shape[:2]
        assert 0 < len(found.rles) <= 20
        assert (np.diff(found.scores) <= 0).all()
        assert ((found.scores > 0.05) & (found.scores <= 1)).all()
        assert ((found.stability >= 0) & (found.stability <= 1)).all()
        for rle, box, area in zip(found.rles, found.bboxes_xywh, found.areas, strict=True):
            assert coco_mask.area(rle.to_coco()) == area
            assert coco_mask.toBbox(rle.to_coco()).tolist() == box.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (2, 3000), (3000, 2), (31, 33)])
def test_odd_shapes_give_a_result(shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    found = Segmenter(find_segmenter("builtin").main, conf=0.001).segment([image])[0]
    assert found.image_hw == shape
    assert all(rle.size == shape for rle in found.rles)


def test_no_detection_is_an_empty_result():
    found = Segmenter(find_segmenter("builtin").main, conf=0.9999).segment([skimage.data.chelsea()])[0]
    assert found.rles == [] and found.bboxes_xywh.shape == (0, 4) and found.scores.shape == (0,)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu():
    images = list(photographs().values())
    path = find_segmenter("builtin").main
    on_cpu = Segmenter(path, **OPTIONS).segment(images)
    for a, b in zip(on_cpu, Segmenter(path, device="cuda", batch_size=8, **OPTIONS).segment(images), strict=True):
        assert abs(len(a.rles) - len(b.rles)) <= 1
        ious = np.asarray(
            coco_mask.iou([r.to_coco() for r in a.rles], [r.to_coco() for r in b.rles], [0] * len(b.rles))
        )
        assert (ious.max(1) > 0.95).mean() >= 0.95


def test_threads_with_other_shapes_change_nothing(monkeypatch):
    """Ultralytics' head keeps anchors of the last shape; 64 x 32 and 32 x 64 have as many of them."""
    wide = skimage.data.coffee()[:300]
    images = [wide, np.ascontiguousarray(wide.transpose(1, 0, 2))] * 4
    segmenter = Segmenter(find_segmenter("builtin").main, imgsz=64, conf=0.05)
    alone = [segmenter.detect([image])[0].boxes_xyxy for image in images[:2]]
    assert all(len(boxes) for boxes in alone)
    distances = DFL.forward

    def overtaken(self, x):
        time.sleep(0.05)  # between the head's anchors and their use
        return distances(self, x)

    monkeypatch.setattr(DFL, "forward", overtaken)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: segmenter.detect([image])[0].boxes_xyxy, images))
    for number, boxes in enumerate(found):
        np.testing.assert_allclose(boxes, alone[number % 2], atol=1e-2)
