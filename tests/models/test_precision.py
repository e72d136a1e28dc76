"""Half precision: what it may change, and what it may not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from photographs import photographs
from pycocotools import mask as coco_mask
from ultralytics.nn.tasks import SegmentationModel

from fastsam_batch.config import segment_options
from fastsam_batch.errors import InputError
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.network import load_network
from fastsam_batch.models.precision import embedder_format, segmenter_format
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import BUILTIN_FOLDER

WEIGHTS = BUILTIN_FOLDER / "segmenter.safetensors"
CPU = torch.device("cpu")
KINDS = (torch.float32, torch.bfloat16)


def test_formats_by_name_and_by_device():
    assert segmenter_format("auto", CPU) == segmenter_format("float32", CPU) == torch.float32
    assert segmenter_format("auto", torch.device("cuda")) == torch.float16
    assert embedder_format("float32", CPU) == torch.float32
    assert embedder_format("bfloat16", CPU) == segmenter_format("bfloat16", CPU) == torch.bfloat16
    assert embedder_format("auto", CPU) in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("load", [lambda: Segmenter(WEIGHTS, precision="float16"), lambda: _float16_options()])
def test_float16_on_a_cpu_is_refused(load):
    with pytest.raises(InputError, match="--precision float16: is for GPUs"):
        load()


def _float16_options():
    return segment_options({"input": "in", "output": "out", "precision": "float16", "device": "cpu"})


@pytest.mark.parametrize("name", ["yolo11n-seg.yaml", "yolo26n-seg.yaml"])
def test_boxes_of_half_precision_are_decoded_in_float32(name, tmp_path):
    torch.manual_seed(0)
    torch.save({"model": SegmentationModel(name, nc=3, verbose=False)}, tmp_path / "other.pt")
    pixels = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        found = [load_network(tmp_path / "other.pt", CPU, kind).forward(pixels, -1.0)[0] for kind in KINDS]
    for expected, half in zip(*found, strict=True):
        assert expected.shape == half.shape == (4 + 3 + 32, 96 + 24 + 6)
        torch.testing.assert_close(half[:4], expected[:4], atol=0.5, rtol=0)
        assert (half[2:4] > 1).all()


def test_a_segmenter_in_bfloat16_finds_nearly_the_same_masks():
    images = list(photographs().values())
    whole, half = (Segmenter(WEIGHTS, precision=name).segment(images) for name in ("float32", "bfloat16"))
    near = []
    for a, b in zip(whole, half, strict=True):
        assert b.scores.dtype == np.float32
        overlaps = coco_mask.iou(
            [rle.to_coco() for rle in a.rles], [rle.to_coco() for rle in b.rles], [0] * len(b.rles)
        )
        near += [overlaps[i].max() for i in range(len(a.rles))]
    assert np.mean(np.array(near) >= 0.9) > 0.9


@pytest.mark.parametrize("mode", ["crop", "pool"])
def test_an_embedder_in_bfloat16_gives_nearly_the_same_vectors(mode):
    whole, half = (Embedder("builtin", mode=mode, precision=name) for name in ("float32", "bfloat16"))
    side = whole.image_size
    crops = np.stack([image[:side, :side] for image in photographs().values()])
    cosines = (whole.embed_crops(crops) * half.embed_crops(crops)).sum(1)
    assert cosines.min() > 0.999
    np.testing.assert_array_equal(whole.encode_texts(["a cat"]), half.encode_texts(["a cat"]))
    if mode == "pool":
        image = photographs()["coffee"]
        found = Segmenter(WEIGHTS).segment([image])[0]
        large = np.argsort(-found.areas)[:8]
        masks = [found.rles[i] for i in large], found.areas[large]
        (a, of_a), (b, of_b) = (embedder.pool_masks(image, *masks, per_mask=100) for embedder in (whole, half))
        assert of_a.any() and (of_a == of_b).all()
        assert (a[of_a] * b[of_b]).sum(1).min() > 0.999
