"""A CLIP image tower as a map: a vector in the joint space for every place of one image.

Method: MaskCLIP (Zhou et al. 2022, section 3.2). Where the tower pools by a query (a class token or an attention
pool), the query is left out and each place goes the value path alone: attention over one token passes that
token's value on unchanged. So the last block, or the pool, is run on sequences of one token. Towers that
average keep their last block, and each place goes through the head by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from fastsam_batch.errors import InputError
from fastsam_batch.models.memory import out_of_memory

_CLIP_RESNET_STRIDE = 32
# Normalised pixels [1, 3, h, w], h and w multiples of the stride, to [h / stride * w / stride, dim].
Places: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class DenseTower:
    """`places` maps one image's pixels to a vector for each cell of `stride` x `stride` pixels, row by row."""

    places: Places
    stride: int


def dense_tower(name: str, visual: Any) -> DenseTower:
    """The dense form of an open_clip image tower: native and timm ViTs, ResNets and timm's convolutional networks.

    Shares the tower's weights. Raises InputError, naming the option, for a tower that has no such form.
    """
    try:
        tower = _dense_form(visual)
        if tower is not None:
            with torch.inference_mode():
                parameter = next(visual.parameters())
                tried = tower.places(parameter.new_zeros(1, 3, 7 * tower.stride, 8 * tower.stride))
            if tried.ndim == 2 and len(tried) == 7 * 8:
                return tower
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, LookupError) as error:
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise
        # else a tower of a form that was not thought of: refused below
    raise InputError(
        f"--embedding-mode pool: the image tower of {name} gives no vector for each place; use --embedding-mode crop"
    )


def _dense_form(visual: Any) -> DenseTower | None:
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer
    from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

    if isinstance(visual, VisionTransformer):
        return _native_vit(visual) if visual.transformer.batch_first else None
    if isinstance(visual, ModifiedResNet):
        return _clip_resnet(visual)
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, TimmVisionTransformer):
        return _timm_vit(visual)
    return _timm_convolutions(visual) if isinstance(visual, TimmModel) else None


def _native_vit(visual: Any) -> DenseTower:
    by_token = visual.attn_pool is None and visual.pool_type == "tok"
    *blocks, last = visual.transformer.resblocks
    side = visual.grid_size

    def places(pixels: torch.Tensor) -> torch.Tensor:
        patches = visual.conv1(pixels)
        hw = patches.shape[-2:]
        tokens = torch.cat(
            [visual.class_embedding.expand(1, 1, -1).to(patches.dtype), patches.flatten(2).transpose(1, 2)], dim=1
        )
        tokens = visual.ln_pre(tokens + _resampled(visual.positional_embedding, side, hw).to(tokens.dtype))
        for block in blocks:
            tokens = block(tokens)
        alone = last(_alone(tokens[:, 1:])) if by_token else _alone(last(tokens)[:, 1:])
        # Twice the same token: a pool that takes the first, the average of the rest, or attends gives it alike.
        pooled: torch.Tensor = visual._pool(alone.expand(-1, 2, -1))[0]
        return pooled if visual.proj is None else pooled @ visual.proj

    return DenseTower(places, int(visual.patch_size[0]))


def _timm_vit(visual: Any) -> DenseTower:
    from timm.layers.format import Format

    trunk = visual.trunk
    # What timm's own dynamic_img_size sets at construction: positions resampled to the input's grid.
    trunk.dynamic_img_size = True
    trunk.patch_embed.strict_img_size = False
    trunk.patch_embed.flatten = False
    trunk.patch_embed.output_fmt = Format.NHWC
    by_token = trunk.attn_pool is None and trunk.global_pool == "token"
    prefix = trunk.num_prefix_tokens
    *blocks, last = trunk.blocks

    def places(pixels: torch.Tensor) -> torch.Tensor:
        tokens = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(pixels)))
        for block in blocks:
            tokens = block(tokens)
        alone = last(_alone(tokens[:, prefix:])) if by_token else _alone(last(tokens)[:, prefix:])
        pooled: torch.Tensor = visual.head(trunk.forward_head(trunk.norm(alone).expand(-1, prefix + 1, -1)))
        return pooled

    return DenseTower(places, int(trunk.patch_embed.patch_size[0]))


def _timm_convolutions(visual: Any) -> DenseTower:
    def places(pixels: torch.Tensor) -> torch.Tensor:
        features = visual.trunk.forward_features(pixels)
        if features.ndim != 4 or features.shape[1] != visual.trunk.num_features:
            raise ValueError("not a map of features")
        alone = features.flatten(2)[0].T[:, :, None, None]
        pooled: torch.Tensor = visual.head(visual.trunk.forward_head(alone))
        return pooled

    return DenseTower(places, int(visual.trunk.feature_info[-1]["reduction"]))


def _clip_resnet(visual: Any) -> DenseTower:
    def places(pixels: torch.Tensor) -> torch.Tensor:
        features = visual.stem(pixels)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            features = layer(features)
        pooled: torch.Tensor = visual.attnpool.c_proj(visual.attnpool.v_proj(features.flatten(2)[0].T))
        return pooled

    return DenseTower(places, _CLIP_RESNET_STRIDE)


def _alone(tokens: torch.Tensor) -> torch.Tensor:
    """One image's tokens [1, n, c] as n sequences of one, [n, 1, c]."""
    return tokens.transpose(0, 1)


def _resampled(positions: torch.Tensor, side: tuple[int, int], hw: tuple[int, int]) -> torch.Tensor:
    """Position embeddings [1 + n, c] of a grid `side`, for one of `hw`: bicubic, as CLIP's own fine-tunings do."""
    if tuple(side) == tuple(hw):
        return positions
    of_class, of_grid = positions[:1], positions[1:]
    grid = of_grid.reshape(1, *side, -1).permute(0, 3, 1, 2).float()
    grid = torch.nn.functional.interpolate(grid, size=tuple(hw), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([of_class, grid[0].flatten(1).T.to(of_class.dtype)])
