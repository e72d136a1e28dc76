"""A folder as BSDS500 has it: human segmentations as .mat, and edge maps in every form."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import scipy.io
import skimage.data


def picture(name: str) -> np.ndarray:
    """A grey photograph float32 [h, w], 120 pixels on its long side."""
    pixels = getattr(skimage.data, name)()
    grey = (pixels if pixels.ndim == 2 else pixels.mean(2)).astype(np.float32)
    scale = 120 / max(grey.shape)
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def soft_edges(name: str, blur: float = 1.5) -> np.ndarray:
    """The photograph's gradient, float64 [h, w] in [0, 1]."""
    grey = cv2.GaussianBlur(picture(name), (0, 0), blur)
    size = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.clip(size / np.percentile(size, 99.5), 0, 1).astype(np.float64)


def drawn_boundaries(name: str, people: int = 3) -> list[np.ndarray]:
    """What people might draw: borders of regions of the blurred photograph, each with other levels."""
    grey = cv2.GaussianBlur(picture(name), (0, 0), 3)
    drawn = []
    for person in range(people):
        levels = np.digitize(grey, np.linspace(40, 220, 3 + person))
        drawn.append((levels[:-1, :-1] != levels[1:, :-1]) | (levels[:-1, :-1] != levels[:-1, 1:]))
    return [np.pad(each, ((0, 1), (0, 1))) for each in drawn]


def write_truth(path: Path, boundaries: list[np.ndarray]) -> None:
    """A groundTruth file: a cell array of structs."""
    cells = np.empty((1, len(boundaries)), object)
    for index, each in enumerate(boundaries):
        cells[0, index] = {"Boundaries": each.astype(np.uint8), "Segmentation": np.zeros(each.shape, np.uint16)}
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"groundTruth": cells})
