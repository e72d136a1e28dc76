"""Crops of things that no photograph at hand shows: emoji laid over photographs, named as Unicode names them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.crops import image_pyramid, mask_crop
from training.clip.crops import KINDS, Row
from training.photographs import read_image
from training.segmenter.pictures import read_sprite

SCENE = 256  # pixels of a made photograph's side
SCENES_A_SPRITE = 2
LENGTHS = (0.35, 0.85)  # of a sprite's long side, over the scene's
# Blocks of things; letters, arrows, clocks and signs are in the others.
_THINGS = ((0x1F300, 0x1F320), (0x1F32D, 0x1F3FA), (0x1F400, 0x1F4FF), (0x1F573, 0x1F57A), (0x1F5A5, 0x1F5FF))
_THINGS += ((0x1F680, 0x1F6FF), (0x1F950, 0x1F96F), (0x1F980, 0x1F9CB), (0x1F9E2, 0x1FAFF), (0x26F0, 0x26F5))
_NO_THINGS = ("sign", "symbol", "arrow", "input", "mark", "prohibited", "no ", "mobile phone off", "heart", "sheet")


def sprite_name(path: Path) -> str | None:
    """What `1f680.webp` shows, "rocket"; None for what is no thing or has no single name."""
    codes = [int(code, 16) for code in path.stem.split("-") if code != "fe0f"]
    if len(codes) != 1 or not any(first <= codes[0] <= last for first, last in _THINGS):
        return None
    name = unicodedata.name(chr(codes[0]), "").lower()
    if not name or any(word in name for word in _NO_THINGS):
        return None
    words = name.replace("-", " ").split()
    return " ".join(words[:-1] if words[-1] == "face" and len(words) > 1 else words)


def sprite_crops(
    sprites: list[Path], backgrounds: list[Path], size: int, fill_rgb: NDArray[np.uint8], rng: np.random.Generator
) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
    """Each named sprite over some photographs, cropped as the embedder crops: rows of the group `sprite`."""
    for path in sprites:
        name = sprite_name(path)
        if name is None:
            continue
        for _ in range(SCENES_A_SPRITE):
            image, mask = _scene(path, read_image(backgrounds[rng.integers(len(backgrounds))]), rng)
            encoded = coco_mask.encode(np.asfortranarray(mask))
            rle = Rle(mask.shape, encoded["counts"].decode("ascii"))
            box = np.asarray(coco_mask.toBbox(encoded), np.float32)
            pyramid = image_pyramid(image, size)
            for kind in KINDS:
                yield (
                    Row("sprite", path.parent.name, kind, name=name),
                    mask_crop(pyramid, rle, box, size, fill_rgb, kind),
                )


def _scene(
    path: Path, photograph: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A square piece of a photograph with the sprite on it, and its mask, uint8 0 or 1."""
    side = min(photograph.shape[:2])
    top, left = (int(rng.integers(0, length - side + 1)) for length in photograph.shape[:2])
    piece = photograph[top : top + side, left : left + side]
    image = np.asarray(cv2.resize(piece, (SCENE, SCENE), interpolation=cv2.INTER_AREA), np.uint8)
    sprite = read_sprite(path)
    height, width = sprite.alpha.shape
    scale = SCENE * rng.uniform(*LENGTHS) / max(height, width)
    width, height = max(round(width * scale), 8), max(round(height * scale), 8)
    pixels = cv2.resize(sprite.image, (width, height), interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(sprite.alpha, (width, height), interpolation=cv2.INTER_AREA)
    x, y = int(rng.integers(0, SCENE - width + 1)), int(rng.integers(0, SCENE - height + 1))
    share = alpha[..., None].astype(np.float32) / 255
    below = image[y : y + height, x : x + width]
    image[y : y + height, x : x + width] = np.round(below * (1 - share) + pixels * share).astype(np.uint8)
    mask = np.zeros((SCENE, SCENE), np.uint8)
    mask[y : y + height, x : x + width] = alpha > 127
    return image, mask
