"""A unit of masks that formats find hard: holes, parts, lines, specks, noise, and the whole frame."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from corpus.made_corpus import DIM, MadeCorpus, write_unit
from PIL import Image
from pycocotools import mask as coco

NAME = "hard/über photo.png"
HEIGHT, WIDTH = 120, 90


def hard_masks() -> list[np.ndarray]:
    """bool [n, HEIGHT, WIDTH]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ring = (np.hypot(y - 60, x - 45) < 30) & (np.hypot(y - 60, x - 45) > 12)
    two_rings = (np.hypot(y - 30, x - 30) < 20) & (np.hypot(y - 30, x - 30) > 8)
    two_rings |= (np.hypot(y - 90, x - 60) < 20) & (np.hypot(y - 85, x - 60) > 8)
    line = np.zeros((HEIGHT, WIDTH), bool)
    line[10, 5:80] = True
    speck = np.zeros((HEIGHT, WIDTH), bool)
    speck[119, 89] = True
    noise = (np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.5) & ring
    return [np.ones((HEIGHT, WIDTH), bool), ring, two_rings, line, speck, noise]


def add_hard_unit(made: MadeCorpus, folder: Path) -> MadeCorpus:
    """Add the masks as one more unit; the photograph has a folder and a name that is not plain."""
    path = folder / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 128, np.uint8)).save(path)
    image = {"image_id": NAME, "uri": str(path), "unit_id": "unit-0003", "width": WIDTH, "height": HEIGHT}
    image |= {"n_masks": 6, "status": "ok", "error_kind": None, "error_message": None}
    image |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    rows: list[dict[str, Any]] = []
    for index, mask in enumerate(hard_masks()):
        rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        vector = np.random.default_rng(index).normal(size=DIM)
        rows.append(
            {
                "image_id": NAME,
                "mask_index": index,
                "bbox": coco.toBbox(rle).tolist(),
                "area": int(mask.sum()),
                "score": float(np.float32(0.95 - 0.1 * index)),
                "stability": 0.75,
                "rle": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
                "embedding": (vector / np.linalg.norm(vector)).astype(np.float16),
            }
        )
    write_unit(made.uri, "unit-0003", [image], rows)
    return MadeCorpus(made.uri, [*made.masks, *rows], [*made.images, image])
