"""Units of many masks around a few directions, and texts encoded without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from corpus.made_corpus import image_row, write_unit

from fastsam_batch.masks.rle import pack_counts

WIDTH = 32


def encode(sentences: Sequence[str]) -> np.ndarray:
    return unit([np.random.default_rng(list(sentence.encode())).normal(size=WIDTH) for sentence in sentences])


def unit(vectors: Any) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_crowd(uri: str, folder: Path, number: int, rows: int) -> list[dict[str, Any]]:
    """A unit of two images and many masks around a few directions."""
    random = np.random.default_rng(number)
    images = [image_row(f"unit-{number:04d}", name, folder) for name in ("coffee.png", "rocket.png")]
    for image in images:
        image["image_id"] = f"{number}/{image['image_id']}"
        image["n_masks"] = rows // 2
    centres = random.normal(size=(8, WIDTH))
    vectors = unit(centres[random.integers(0, 8, rows)] + 0.4 * random.normal(size=(rows, WIDTH))).astype(np.float16)
    masks = []
    for index, vector in enumerate(vectors):
        image = images[index % 2]
        size = [image["height"], image["width"]]
        pixels = size[0] * size[1]
        masks.append(
            {
                "image_id": image["image_id"],
                "mask_index": index // 2,
                "bbox": [float(index % 40), 1.0, 20.0, 10.0],
                "area": int(random.integers(1, 1000)),
                "score": float(np.float32(random.random())),
                "stability": 0.5,
                "rle": {"size": size, "counts": whole(pixels)},
                "embedding": None if index == 3 else vector,
            }
        )
    write_unit(uri, f"unit-{number:04d}", images, masks, WIDTH, row_group_size=200)
    return masks


def whole(pixels: int) -> str:
    """The RLE of a mask of every pixel."""
    return pack_counts(np.array([0, pixels]), np.array([2]))[0]
