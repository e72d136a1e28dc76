"""Made backgrounds: textures, and frames that textures divide into regions, each of them a label."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from training.segmenter.scene import Instance, Scene

Pixels = NDArray[np.uint8]
_JOINT = 0.8  # pixels by which a border between regions is blurred, as a lens does


def crop_of(image: Pixels, side: int, rng: np.random.Generator, share: tuple[float, float] = (0.5, 1.0)) -> Pixels:
    """A square part of a picture, this share of its short side, resized to `side`."""
    height, width = image.shape[:2]
    span = max(int(min(height, width) * rng.uniform(*share)), 4)
    x, y = rng.integers(0, width - span + 1), rng.integers(0, height - span + 1)
    part = image[y : y + span, x : x + span]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    how = cv2.INTER_AREA if span > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=how), np.uint8)


def texture(photograph: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    """A frame of one stuff: a small patch of a photograph blown up, or mirrored over the frame, or a gradient."""
    kind = rng.random()
    if kind < 0.4:
        return crop_of(photograph, side, rng, (0.04, 0.25))
    if kind < 0.65:
        tile = crop_of(photograph, int(rng.integers(side // 8, side // 2)), rng, (0.1, 0.4))
        tile = np.concatenate([tile, tile[:, ::-1]], axis=1)
        tile = np.concatenate([tile, tile[::-1]], axis=0)
        times = -(-side // len(tile))
        return np.ascontiguousarray(np.tile(tile, (times, times, 1))[:side, :side])
    return gradient(side, rng)


def gradient(side: int, rng: np.random.Generator) -> Pixels:
    """A plain colour that changes slowly, with grain."""
    colours = np.clip(rng.integers(0, 256, 3) + rng.normal(0, 35, (4, 3)), 0, 255)
    corners = colours.reshape(2, 2, 3).astype(np.float32)
    plain = cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR)
    grain = rng.integers(1, 12)
    coarse = int(rng.choice([1, 2, 4, 16]))
    noise = rng.normal(0, grain, (-(-side // coarse), -(-side // coarse), 1)).astype(np.float32)
    noise = cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR)[:, :, None]
    return np.clip(plain + noise, 0, 255).astype(np.uint8)


def divided(side: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """A region's number for every pixel of a frame, 0 to at most 4: a horizon, or cells with wavy borders."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    wave = np.zeros_like(x)
    for frequency in (3, 7, 17):
        phase, turn = rng.uniform(0, 6.28, 2)
        wave += np.sin(frequency * (x * np.cos(turn) + y * np.sin(turn)) * 6.28 + phase) / frequency
    wave *= rng.choice([0.0, 0.03, 0.15])
    if rng.random() < 0.5:
        slope = rng.normal(0, 0.15)
        cuts = np.sort(rng.uniform(0.12, 0.88, rng.integers(1, 3)))
        height = (y if rng.random() < 0.75 else x) + slope * ((x if rng.random() < 0.75 else y) - 0.5) + wave
        return np.asarray((height[:, :, None] > cuts).sum(2), np.int32)
    seeds = rng.uniform(-0.1, 1.1, (int(rng.integers(2, 6)), 2))
    away = [(x + wave - sx) ** 2 + (y + 0.7 * wave - sy) ** 2 for sx, sy in seeds]
    return np.asarray(np.argmin(away, axis=0), np.int32)


def regions(photograph: Callable[[], Pixels], side: int, rng: np.random.Generator) -> Scene:
    """A frame of two to five textures, every connected part of each an instance."""
    numbers = divided(side, rng)
    image = np.zeros((side, side, 3), np.float32)
    scene = Scene(np.zeros((side, side, 3), np.uint8))
    for number in np.unique(numbers):
        inside = (numbers == number).astype(np.uint8)
        share = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), _JOINT)[:, :, None]
        image += share * texture(photograph(), side, rng)
        count, parts = cv2.connectedComponents(inside, connectivity=4)
        for part in range(1, count):
            mask = (parts == part).astype(np.uint8) * 255
            scene.instances.append(Instance(0, 0, mask, cv2.countNonZero(mask)))
    scene.image = np.clip(image, 0, 255).astype(np.uint8)
    return scene
