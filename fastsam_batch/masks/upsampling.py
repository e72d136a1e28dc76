"""How prototypes lie over an image: which blends of them the upsampling makes of each image column and row.

Geometry of Ultralytics `utils/ops.py` process_mask_native and scale_masks, kept exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.boxes import content_of

PROTOTYPE_STRIDE = 4  # input pixels a prototype pixel covers, in every YOLOv8-seg


@dataclass(frozen=True)
class Blend:
    """Samples of an axis as blends of two neighbours: (1 - weight) * a[low] + weight * a[high]."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Nodes:
    """Where a column's profile bends: blends of prototype rows, at `positions` in image rows."""

    blend: Blend
    positions: NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Image columns as blends of the upsampled prototype columns, those as blends of prototype columns."""

    image: Blend
    upsampled: Blend


def upsampling(proto_hw: tuple[int, int], image_hw: tuple[int, int]) -> tuple[Nodes, Columns]:
    """Down and across an image of `image_hw` (height, width), from prototypes of `proto_hw`."""
    factor, window_y, window_x = _content_window(proto_hw, image_hw)
    return _nodes(proto_hw[0], factor, window_y, image_hw[0]), _columns(proto_hw[1], factor, window_x, image_hw[1])


def _content_window(
    proto_hw: tuple[int, int], image_hw: tuple[int, int]
) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """Upsampling factor, and rows and columns of the upsampled prototypes that hold the image.

    Letterbox padding need not be a multiple of the prototype stride: the prototypes are first upsampled
    by the smallest factor that cuts it on whole pixels.
    """
    input_h, input_w = PROTOTYPE_STRIDE * proto_hw[0], PROTOTYPE_STRIDE * proto_hw[1]
    (content_h, content_w), _, _ = content_of((input_h, input_w), image_hw)
    padding = (input_h - content_h) | (input_w - content_w)
    factor = PROTOTYPE_STRIDE // math.gcd(PROTOTYPE_STRIDE, padding | padding // 2)
    up_h, up_w = factor * proto_hw[0], factor * proto_hw[1]
    (content_h, content_w), top, left = content_of((up_h, up_w), image_hw)
    return factor, (top, min(top + content_h, up_h)), (left, min(left + content_w, up_w))


def _bilinear(positions: NDArray[np.float64], size: int) -> Blend:
    """Blends for sampling an axis of `size` pixels at `positions` (pixel centres whole), edges held."""
    clamped = np.clip(positions, 0, size - 1)
    low = np.floor(clamped).astype(np.int64)
    return Blend(low, np.minimum(low + 1, size - 1), (clamped - low).astype(np.float32))


def _upsampled(size: int, factor: int, window: tuple[int, int]) -> tuple[NDArray[np.float64], Blend]:
    """Centres of the upsampled pixels of a window, in prototype pixels, and their blends."""
    centres = (np.arange(*window, dtype=np.float64) + 0.5) / factor - 0.5
    return centres, _bilinear(centres, size)


def _nodes(size: int, factor: int, window: tuple[int, int], length: int) -> Nodes:
    centres, blend = _upsampled(size, factor, window)
    fraction = np.abs(centres - np.round(centres))
    # Upsampled pixels away from a prototype's centre lie on the line between their neighbours.
    bends = fraction <= 0.5 / factor + 1e-9
    bends[[0, -1]] = True
    scale = len(centres) / length
    positions = (np.arange(len(centres), dtype=np.float64) + 0.5) / scale - 0.5
    return Nodes(Blend(blend.low[bends], blend.high[bends], blend.weight[bends]), positions[bends])


def _columns(size: int, factor: int, window: tuple[int, int], length: int) -> Columns:
    _, upsampled = _upsampled(size, factor, window)
    count = window[1] - window[0]
    source = (np.arange(length, dtype=np.float64) + 0.5) * (count / length) - 0.5
    return Columns(_bilinear(source, count), upsampled)
