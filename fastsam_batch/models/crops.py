"""Crops of masks, as an embedder sees them: square, padded, with or without what lies around the mask.

Method: FastSAM (Zhao et al. 2023), text prompt, crops each mask by its box with the background removed;
context crops keep the background and a margin. A square around the box keeps the aspect ratio, which
CLIP's own resize-and-centre-crop of an oblong box would cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.coverage import box_coverage
from fastsam_batch.masks.rle import Rle, decode_in_box

CONTEXT_MARGIN = 0.1  # of the box's long side, on each side
CROP_KINDS = {"masked": ("masked",), "context": ("context",), "both": ("masked", "context")}
OVERSAMPLING = 2  # a crop is shrunk from at least this many times its size, where the image has it


def image_pyramid(image: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    """The image, its half, its quarter … as far as crops of `size` pixels can use: uint8 RGB each.

    A large mask is cropped out of a level near its crop's size, so that the crops of an image cost about
    what one pass over its pixels costs.
    """
    levels = [image]
    while max(levels[-1].shape[:2]) >= 2 * OVERSAMPLING * size and min(levels[-1].shape[:2]) >= 2:
        height, width = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.uint8))
    return levels


def mask_crop(
    pyramid: list[NDArray[np.uint8]],
    rle: Rle,
    bbox_xywh: NDArray[np.float32],
    size: int,
    fill_rgb: NDArray[np.uint8],
    kind: str,
) -> NDArray[np.uint8]:
    """One mask's crop, uint8 RGB [size, size, 3].

    `pyramid` of the image; `bbox_xywh` the mask's tight box in whole pixels of the image. `kind` is
    `masked` (pixels outside the mask become `fill_rgb`) or `context` (a margin, background kept). What
    lies outside the image or the square's short side is `fill_rgb`.
    """
    place = place_of(bbox_xywh, pyramid[0].shape[:2], size, kind)
    level = _level(pyramid, place.side, size)
    crop = _resize(_region(pyramid, level, *place.region_xyxy), place.crop_hw)
    if kind == "masked":
        share = mask_share(rle, bbox_xywh, place.crop_hw)
        background = np.empty_like(crop)
        background[:] = fill_rgb
        crop = np.asarray(cv2.blendLinear(crop, background, share, 1 - share), np.uint8)
    below, beside = size - place.top - crop.shape[0], size - place.left - crop.shape[1]
    border = cv2.BORDER_CONSTANT
    padded = cv2.copyMakeBorder(crop, place.top, below, place.left, beside, border, value=fill_rgb.tolist())
    return np.asarray(padded, np.uint8)


@dataclass(frozen=True)
class Place:
    """Which part of an image a crop shows, and where in the crop it lies.

    `region_xyxy` in whole pixels of the image, within it; it becomes `crop_hw` pixels whose corner lies at `left`,
    `top` of the crop. `side` of the square that the whole crop shows, in pixels of the image.
    """

    region_xyxy: tuple[int, int, int, int]
    crop_hw: tuple[int, int]
    left: int
    top: int
    side: int


def place_of(bbox_xywh: NDArray[np.float32], image_hw: tuple[int, int], size: int, kind: str) -> Place:
    """The place of a mask's crop of `size` pixels, of its tight box in whole pixels of the image."""
    x, y, width, height = (int(value) for value in bbox_xywh)
    margin = round(CONTEXT_MARGIN * max(width, height)) if kind == "context" else 0
    left, top = max(x - margin, 0), max(y - margin, 0)
    right, bottom = min(x + width + margin, image_hw[1]), min(y + height + margin, image_hw[0])
    side = max(width, height) + 2 * margin
    scale = size / side
    crop_hw = max(round((bottom - top) * scale), 1), max(round((right - left) * scale), 1)
    # Where the region lies in the square, whose centre is the box's.
    place_x = round((left - (x + width / 2 - side / 2)) * scale)
    place_y = round((top - (y + height / 2 - side / 2)) * scale)
    place_x = min(max(place_x, 0), size - crop_hw[1])
    place_y = min(max(place_y, 0), size - crop_hw[0])
    return Place((left, top, right, bottom), crop_hw, place_x, place_y, side)


def mask_share(rle: Rle, bbox_xywh: NDArray[np.float32], hw: tuple[int, int]) -> NDArray[np.float32]:
    """How much of each pixel of the mask's box, resized to `hw`, is mask: float32 in [0, 1]."""
    x, y, width, height = (int(value) for value in bbox_xywh)
    if hw[0] <= height and hw[1] <= width:
        return box_coverage(rle, (x, y, width, height), hw)
    mask = decode_in_box(rle, (x, y, width, height)).view(np.uint8) * np.uint8(255)
    return np.asarray(_resize(mask, hw) / np.float32(255), np.float32)


def merge_crops(embeddings: NDArray[np.float32], per_mask: int) -> NDArray[np.float32]:
    """One unit vector a mask, float32 [n, dim], from the vectors of its crops [n * per_mask, dim]."""
    mean = embeddings.reshape(-1, per_mask, embeddings.shape[1]).mean(1)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    return np.asarray(mean / np.maximum(length, np.finfo(np.float32).tiny), np.float32)


def _level(pyramid: list[NDArray[np.uint8]], side: int, size: int) -> int:
    level = 0
    while level + 1 < len(pyramid) and side >> (level + 1) >= OVERSAMPLING * size:
        level += 1
    return level


def _region(
    pyramid: list[NDArray[np.uint8]], level: int, left: int, top: int, right: int, bottom: int
) -> NDArray[np.uint8]:
    if level == 0:
        return pyramid[0][top:bottom, left:right]
    pixels = pyramid[level]
    scale_y, scale_x = pixels.shape[0] / pyramid[0].shape[0], pixels.shape[1] / pyramid[0].shape[1]
    # A level of half the pixels may end where the first row of a thin region would lie.
    first_row = min(round(top * scale_y), pixels.shape[0] - 1)
    first_column = min(round(left * scale_x), pixels.shape[1] - 1)
    return pixels[
        first_row : max(round(bottom * scale_y), first_row + 1),
        first_column : max(round(right * scale_x), first_column + 1),
    ]


def _resize(pixels: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    shrinks = hw[0] < pixels.shape[0] or hw[1] < pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC  # antialiased when shrinking
    return np.asarray(cv2.resize(pixels, (hw[1], hw[0]), interpolation=method), np.uint8)
