"""What scenes are made of: labelled photographs, plain ones, cut-outs, sprites."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import decode_in_box
from training.photographs import Photograph, read_image

Pixels = NDArray[np.uint8]
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
MIN_CUTOUT_AREA = 28 * 28
SPRITE_SIDE = 224


@dataclass(frozen=True)
class Labelled:
    """A photograph uint8 RGB [h, w, 3], half of it, and its masks as (x, y, uint8 0 or 255 [h, w])."""

    image: Pixels
    half: Pixels
    masks: tuple[tuple[int, int, Pixels], ...]


@dataclass(frozen=True)
class Cutout:
    """An object: uint8 RGB [h, w, 3] and its opacity uint8 [h, w]."""

    image: Pixels
    alpha: Pixels


def read_labelled(photograph: Photograph) -> Labelled:
    """A photograph with its things."""
    image = read_image(photograph.path)
    masks = []
    for thing in photograph.things:
        x, y, _, _ = thing.box_xywh
        masks.append((x, y, decode_in_box(thing.rle, thing.box_xywh).astype(np.uint8) * 255))
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return Labelled(image, np.asarray(half, np.uint8), tuple(masks))


def cutouts_of(photograph: Labelled) -> list[Cutout]:
    """Its things that at most one border of the photograph cuts."""
    height, width = photograph.image.shape[:2]
    found = []
    for x, y, mask in photograph.masks:
        h, w = mask.shape
        cut = (x <= 1) + (y <= 1) + (x + w >= width - 1) + (y + h >= height - 1)
        if cut <= 1 and cv2.countNonZero(mask) >= MIN_CUTOUT_AREA:
            found.append(Cutout(photograph.image[y : y + h, x : x + w], mask))
    return found


def pictures_in(folder: Path | None) -> list[Path]:
    """Every picture below a folder, sorted; none for None. Raises InputError for a folder that is missing."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)


@lru_cache(maxsize=1500)
def read_sprite(path: Path) -> Cutout:
    """A picture with opacity, trimmed to what is seen, its long side at most 224 px. Raises InputError otherwise."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4 or not (pixels[:, :, 3] > 127).any():
        raise InputError(f"{path}: is not a picture with opacity")
    x, y, width, height = cv2.boundingRect((pixels[:, :, 3] > 127).astype(np.uint8))
    seen = pixels[y : y + height, x : x + width]
    scale = min(1.0, SPRITE_SIDE / max(height, width))
    small = cv2.resize(seen, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else seen
    return Cutout(np.ascontiguousarray(small[:, :, 2::-1]), np.ascontiguousarray(small[:, :, 3]))


@lru_cache(maxsize=600)
def read_plain(path: Path) -> Pixels:
    """A photograph at most 640 px long, for a background."""
    image = read_image(path)
    scale = min(1.0, 640 / max(image.shape[:2]))
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def all_cutouts(photographs: Iterable[Labelled]) -> list[Cutout]:
    """The cut-outs of every photograph."""
    return [cutout for photograph in photographs for cutout in cutouts_of(photograph)]
