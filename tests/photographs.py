"""Real photographs that ship in installed packages, as files for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image


def photographs() -> dict[str, np.ndarray]:
    """uint8 RGB by name; sizes and shapes differ."""
    return {
        "astronaut": skimage.data.astronaut(),
        "chelsea": skimage.data.chelsea(),
        "china": load_sample_image("china.jpg"),
        "coffee": skimage.data.coffee(),
        "flower": load_sample_image("flower.jpg"),
        "rocket": skimage.data.rocket(),
    }


def write_photographs(folder: Path, names: list[str] | None = None) -> list[Path]:
    """PNG files of the photographs, so that every kind of input holds the same pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, pixels in photographs().items():
        if names is None or name in names:
            paths.append(folder / f"{name}.png")
            Image.fromarray(pixels).save(paths[-1])
    return paths
