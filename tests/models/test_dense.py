"""Pooled embeddings: dense towers against their own pooled output, and masks against crops."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import photographs
from pycocotools import mask as coco_mask
from safetensors.torch import save_file

from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.dense import dense_tower
from fastsam_batch.models.embedder import Embedder

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TIMM_VIT = {"timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False, "image_size": 224}
NATIVE_VIT = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
TOWERS = {
    "native": NATIVE_VIT,
    "native average": {**NATIVE_VIT, "pool_type": "avg"},
    "clip resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
    "timm token": {**TIMM_VIT, "timm_pool": "token", "timm_proj": "linear"},
    "timm map": {**TIMM_VIT, "timm_pool": "map", "timm_proj": "none"},
    "timm resnet": {"timm_model_name": "resnet10t", "timm_model_pretrained": False, "timm_proj": "linear",
                    "timm_pool": "", "image_size": 80},
}  # fmt: skip
STRIDES = {"native": 8, "native average": 8, "clip resnet": 32, "timm token": 16, "timm map": 16, "timm resnet": 32}


def tower(vision, dim=32):
    import open_clip

    torch.manual_seed(0)
    dim = 192 if vision.get("timm_proj") == "none" else dim
    model = open_clip.model.CLIP(dim, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**TEXT))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("name", TOWERS)
def test_a_vector_for_every_place(name):
    visual = tower(TOWERS[name]).visual
    dense = dense_tower(name, visual)
    assert dense.stride == STRIDES[name]
    pixels = torch.randn(1, 3, 4 * dense.stride, 6 * dense.stride)
    with torch.inference_mode():
        places = dense.places(pixels)
        assert places.shape == (24, 192 if name == "timm map" else 32)
        assert torch.isfinite(places).all()
        # The rows are the grid's, row by row: what changes at one end of the image changes places there most.
        changed = pixels.clone()
        changed[..., -dense.stride :, -dense.stride :] += 3
        moved = (dense.places(changed) - places).norm(dim=1)
    assert moved.argmax() == 23


@pytest.mark.parametrize("name", ["timm resnet", "native average"])
def test_a_tower_that_averages_gives_its_own_output_as_the_mean(name):
    visual = tower(TOWERS[name]).visual
    dense = dense_tower(name, visual)
    side = 96 if name == "timm resnet" else 32
    pixels = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        expected, mean = visual(pixels)[0], dense.places(pixels).mean(0)
    torch.testing.assert_close(mean, expected, rtol=1e-3, atol=1e-4)


def test_the_last_block_goes_the_value_path():
    """With one patch beside the class token, its place is what attention to itself alone gives."""
    visual = tower(TOWERS["native"]).visual
    pixels = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        places = dense_tower("native", visual).places(pixels)
        tokens = visual._embeds(pixels)
        block = visual.transformer.resblocks[0]
        tokens = block(tokens)
        last = visual.transformer.resblocks[1]
        normed = last.ln_1(tokens[:, 1:])
        width = normed.shape[-1]
        value = torch.nn.functional.linear(
            normed, last.attn.in_proj_weight[2 * width :], last.attn.in_proj_bias[2 * width :]
        )
        tokens = tokens[:, 1:] + last.attn.out_proj(value)
        tokens = tokens + last.mlp(last.ln_2(tokens))
        expected = visual.ln_post(tokens)[0] @ visual.proj
    torch.testing.assert_close(places, expected, rtol=1e-4, atol=1e-4)


def test_a_tower_without_places_is_refused(tmp_path):
    vision = {"timm_model_name": "swin_tiny_patch4_window7_224", "timm_model_pretrained": False, "timm_proj": "linear",
              "timm_pool": "avg", "image_size": 224}  # fmt: skip
    config = {"model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    save_file(tower(vision).state_dict(), tmp_path / "open_clip_model.safetensors")
    with pytest.raises(InputError, match="--embedding-mode pool: the image tower of") as refused:
        Embedder(str(tmp_path), mode="pool")
    assert "\n" not in str(refused.value)


def masks_of(hw, boxes):
    rles = []
    for x, y, width, height in boxes:
        mask = np.zeros(hw, np.uint8, order="F")
        mask[y : y + height, x : x + width] = 1
        rle = coco_mask.encode(mask)
        rles.append(Rle(hw, rle["counts"].decode()))
    return rles, np.array([box[2] * box[3] for box in boxes])


def test_masks_are_pooled_from_what_they_cover():
    embedder = Embedder("builtin", mode="pool")
    image = np.concatenate([photographs()["astronaut"][:400, :400], photographs()["coffee"][:400, :400]], axis=1)
    boxes = [(400 * side + 20 * i, 10 * i, 240, 240) for side in (0, 1) for i in range(6)] + [(5, 5, 9, 9)]
    rles, areas = masks_of(image.shape[:2], boxes)
    vectors, pooled = embedder.pool_masks(image, rles, areas, per_mask=2)
    assert pooled.tolist() == [True] * 12 + [False]
    np.testing.assert_allclose(np.linalg.norm(vectors[:12], axis=1), 1, atol=1e-5)
    assert not vectors[12].any()
    alike = vectors[:12] @ vectors[:12].T
    assert alike[:6, :6].mean() > alike[:6, 6:].mean() + 0.1
    fewer, none = embedder.pool_masks(image, rles[:2], areas[:2])
    assert not none.any() and not fewer.any()  # two crops cost less than the image
    with pytest.raises(ValueError, match="cannot pool"):
        Embedder("builtin").pool_masks(image, rles, areas)


@pytest.mark.parametrize("hw", [(1, 1), (3, 5), (500, 700)])
def test_a_vector_is_the_mean_over_what_the_mask_covers(hw):
    """In images of fewer pixels than places too, and for masks that cover a fraction of each place."""
    embedder = Embedder("builtin", mode="pool")
    image = np.random.default_rng(0).integers(0, 255, (*hw, 3), np.uint8)
    height, width = hw
    rows, columns = max(height // 20, 1), max(width // 20, 1)
    boxes = [(0, 0, width, height), (0, height // 2, width, rows), (width // 2, 0, columns, height)]
    rles, areas = masks_of(hw, boxes)
    given = {}
    dense = embedder._dense

    def noted(pixels):
        given["hw"] = tuple(side // dense.stride for side in pixels.shape[2:])
        given["places"] = dense.places(pixels)
        return given["places"]

    embedder._dense = replace(dense, places=noted)
    vectors, pooled = embedder.pool_masks(image, rles, areas, per_mask=1000)
    assert pooled.all()
    rows, columns = given["hw"]
    for rle, vector in zip(rles, vectors, strict=True):
        fine = coco_mask.decode(rle.to_coco()).repeat(rows, 0).repeat(columns, 1)
        shares = fine.reshape(rows, height, columns, width).mean((1, 3)).reshape(-1)
        expected = shares @ given["places"].float().numpy()
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)
