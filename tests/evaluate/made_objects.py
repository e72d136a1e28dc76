"""Labelled objects and results in COCO's form, at random: every size, crowds, polygons, overlaps and ties."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

SIZE_HW = (300, 400)


def disc(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """A tilted ellipse, bool [*SIZE_HW]."""
    canvas = np.zeros(SIZE_HW, np.uint8)
    axes = (radius * rng.uniform(0.7, 1.2, 2)).round().astype(int).tolist()
    cv2.ellipse(canvas, centre.round().astype(int).tolist(), axes, rng.uniform(0, 180), 0, 360, 1, -1)
    return canvas > 0


def rle(mask: np.ndarray) -> dict[str, Any]:
    """A COCO dict with its counts as text."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def made_objects(
    seed: int, images: int = 6, found: int = 60, categories: int = 3
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An instances document and a results list for it; the last image has no results, the one before no objects."""
    rng = np.random.default_rng(seed)
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": 1 + index, "name": f"thing {index}"} for index in range(categories)]
    results: list[dict[str, Any]] = []
    for number in range(images):
        image_id = 100 - number  # not in ascending order
        row = {"id": image_id, "file_name": f"{image_id:012d}.jpg", "height": SIZE_HW[0], "width": SIZE_HW[1]}
        document["images"].append(row)
        places = [(rng.uniform(0, SIZE_HW[::-1]), float(np.exp(rng.uniform(np.log(5), np.log(120))))) for _ in range(9)]
        for index, (centre, radius) in enumerate(places if number != images - 2 else []):
            mask = disc(rng, centre, radius)
            if not mask.any():
                continue
            x, y, width, height = coco_mask.toBbox(rle(mask)).tolist()
            annotation = {
                "id": len(document["annotations"]) + 1,
                "image_id": image_id,
                "category_id": int(rng.integers(categories)) + 1,
                "iscrowd": int(index == 3),
                "bbox": [x, y, width, height],
                "area": float(mask.sum()),
                "segmentation": rle(mask),
            }
            if index == 5:
                corners = [x, y, x + width, y, x + width, y + height, x, y + height]
                annotation |= {"segmentation": [corners], "area": width * height}
            if index == 3:
                flat = mask.ravel(order="F").astype(int)
                edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
                annotation["segmentation"] = {
                    "size": list(SIZE_HW),
                    "counts": np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist(),
                }
            document["annotations"].append(annotation)
        for _ in range(found if number != images - 1 else 0):
            centre, radius = places[rng.integers(len(places))]
            mask = disc(rng, centre + rng.normal(size=2) * radius * 0.15, radius * rng.uniform(0.8, 1.25))
            if mask.any():
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": int(rng.integers(categories)) + 1,
                        "score": float(rng.integers(1, 5000) / 5000),
                        "segmentation": rle(mask),
                    }
                )
    return document, results
