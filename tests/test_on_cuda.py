"""What runs on a GPU, on a pretended one where there is none: nothing of it is looked for in the wrong memory."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from photographs import photographs
from PIL import Image
from pretended_cuda import pretended_cuda
from pycocotools import mask as coco_mask

from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.models.pair import load_models
from fastsam_batch.sources.base import EncodedImage, UnitBytes
from fastsam_batch.unit import UnitOptions, UnitResult, process_unit

NAMES = ["chelsea", "coffee", "rocket"]


def test_the_pretended_device_has_its_own_memory():
    with pretended_cuda():
        here = torch.arange(3.0)
        there = here.to("cuda")
        assert there.device.type == "cuda" and here.device.type == "cpu"
        assert (there + torch.ones(3, device="cuda") + 1).cpu().numpy().tolist() == [2, 3, 4]
        there[torch.tensor([0, 2], device="cuda")] = 5  # in place, through a view, and by places told from here
        there[1:].add_(1)
        assert there[torch.tensor([0, 1])].tolist() == [5, 2] and there.sum().item() == 13
        for mixed in (lambda: there + here, lambda: here[there.long()], lambda: torch.stack([here, there])):
            with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
                mixed()
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()


@pytest.fixture(scope="module")
def unit() -> UnitBytes:
    images = []
    for name in NAMES:
        buffer = io.BytesIO()
        Image.fromarray(photographs()[name]).save(buffer, "PNG")
        images.append(EncodedImage(f"{name}.png", f"/x/{name}.png", buffer.getvalue()))
    return UnitBytes("files-000000000", "", False, tuple(images))


def run(unit: UnitBytes, device: str, mode: str, precision: str, tile: int | None) -> UnitResult:
    tiles = {"tile": tile, "overlap": 32} if tile else {}
    models = load_models(
        {"path": "builtin", "imgsz": 320, "conf": 0.1, "batch_size": 2, "precision": precision, **tiles},
        {"name": "builtin", "mode": mode, "batch_size": 16, "precision": precision},
        device,
        None,
    )
    result = process_unit(unit, *models, UnitOptions(crop="both", embedding_mode=mode), workers=3)
    assert [row["error_message"] for row in result.images.to_pylist()] == [None] * len(NAMES)
    assert result.masks.num_rows > 10
    return result


@pytest.mark.parametrize(("mode", "tile"), [("crop", None), ("pool", None), ("crop", 256)])
def test_a_unit_has_the_masks_and_vectors_of_the_cpu(unit, mode, tile):
    expected = run(unit, "cpu", mode, "float32", tile).masks
    with pretended_cuda():
        found = run(unit, "cuda", mode, "float32", tile).masks
    columns = ["image_id", "mask_index", "rle", "area", "bbox"]
    assert found.select(columns).equals(expected.select(columns))
    vectors, true = (embedding_matrix(each["embedding"].combine_chunks()) for each in (found, expected))
    np.testing.assert_array_equal(np.isnan(vectors), np.isnan(true))
    assert np.nanmin((vectors * true).sum(1)) > 0.995  # crops come from the image here, from a pyramid there


def test_in_halves_as_by_default_most_masks_are_those_of_the_cpu(unit):
    expected = run(unit, "cpu", "crop", "auto", None).masks
    with pretended_cuda():
        found = run(unit, "cuda", "crop", "auto", None).masks
    best = []
    for name in NAMES:
        of_image = [each.filter(pc.field("image_id") == f"{name}.png")["rle"].to_pylist() for each in (expected, found)]
        best += coco_mask.iou(*of_image, [0] * len(of_image[1])).max(1).tolist()
    assert (np.array(best) > 0.95).mean() >= 0.9
