"""A small data folder: red discs called cats and blue squares called dogs, captioned and classed too."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

COLOURS = {"person": (40, 200, 40), "cat": (220, 20, 20), "dog": (20, 20, 220)}
SIDE = 96


def write_data(folder: Path, photographs: int = 52) -> Path:
    """coco-masks, coco-captions and caltech101 under `folder`; two things a photograph."""
    rng = np.random.default_rng(0)
    images, annotations, captions, classes = [], [], [], ["file_name,class"]
    for source in ("coco-masks", "coco-captions", "caltech101"):
        (folder / source / "images").mkdir(parents=True)
    for index in range(photographs):
        picture = rng.integers(90, 160, (SIDE, SIDE, 3), np.uint8)
        name = f"{index:04d}.jpg"
        kinds = rng.permutation(list(COLOURS))[:2]
        for place, kind in enumerate(kinds):
            left, top = 6 + 46 * place, int(rng.integers(6, 50))
            picture[top : top + 38, left : left + 38] = COLOURS[kind]
            corners = [left, top, left + 38, top, left + 38, top + 38, left, top + 38]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": list(COLOURS).index(kind) + 1,
                    "segmentation": [corners],
                    "area": 38 * 38,
                    "iscrowd": 0,
                }
            )
        images.append({"id": index, "file_name": name, "width": SIDE, "height": SIDE})
        _write(folder / "coco-masks" / "images" / name, picture)
        if index % 4 == 0:
            _write(folder / "coco-captions" / "images" / name, picture)
            captions.append({"file_name": name, "license": 4, "captions": [f"a {kinds[0]} beside a {kinds[1]}"]})
        whole = np.full((64, 64, 3), COLOURS[kinds[0]], np.uint8)
        _write(folder / "caltech101" / "images" / name, whole)
        classes.append(f"{name},{kinds[0]}")
    categories = [{"id": place + 1, "name": kind} for place, kind in enumerate(COLOURS)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco-masks" / "instances.json").write_text(json.dumps(document))
    (folder / "coco-captions" / "captions.json").write_text(json.dumps({"images": captions}))
    (folder / "caltech101" / "labels.csv").write_text("\n".join(classes))
    return folder


def _write(path: Path, rgb: np.ndarray) -> None:
    assert cv2.imwrite(str(path), rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
