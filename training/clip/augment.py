"""One crop, seen a little differently: frame, colour, sharpness, noise, a piece missing."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def augmented(
    crop: NDArray[np.uint8], size: int, fill_rgb: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The crop uint8 RGB [s, s, 3] at `size`, changed at random."""
    if rng.random() < 0.2:  # a small object, enlarged: as masks of few pixels look
        small = int(rng.integers(size // 4, size * 3 // 4))
        crop = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    method = cv2.INTER_AREA if size < crop.shape[0] else cv2.INTER_CUBIC
    image = cv2.resize(crop, (size, size), interpolation=method)
    image = _moved(image, fill_rgb, rng)
    image = _coloured(image, rng)
    if rng.random() < 0.25:
        height, width = rng.integers(size // 8, size // 2, 2)
        top, left = rng.integers(0, size - height), rng.integers(0, size - width)
        image[top : top + height, left : left + width] = fill_rgb
    return image


def _moved(image: NDArray[np.uint8], fill_rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    size = image.shape[0]
    angle = np.deg2rad(rng.normal(0, 8))
    scale, aspect = np.exp(rng.uniform(-0.22, 0.25)), np.exp(rng.normal(0, 0.1))
    across, down = scale * aspect, scale / aspect
    if rng.random() < 0.5:
        across = -across
    turn = np.array([[np.cos(angle) * across, -np.sin(angle) * down], [np.sin(angle) * across, np.cos(angle) * down]])
    middle = np.array([(size - 1) / 2] * 2)
    shift = middle + rng.uniform(-0.07, 0.07, 2) * size - turn @ middle
    fill = tuple(int(value) for value in fill_rgb)
    matrix = np.hstack([turn, shift[:, None]])
    return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=fill), np.uint8)


def _coloured(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    pixels = image.astype(np.float32)
    if rng.random() < 0.8:
        pixels *= np.exp(rng.normal(0, 0.06, 3) + rng.normal(0, 0.2)).astype(np.float32)
        centre = np.float32(pixels.mean())
        pixels = (pixels - centre) * np.float32(np.exp(rng.normal(0, 0.2))) + centre
        grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
        share = np.float32(0 if rng.random() < 0.1 else np.clip(rng.normal(1, 0.3), 0, 2))
        pixels = grey[..., None] + (pixels - grey[..., None]) * share
    if rng.random() < 0.3:
        pixels += rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(2, 10))
    return np.clip(pixels, 0, 255).astype(np.uint8)
