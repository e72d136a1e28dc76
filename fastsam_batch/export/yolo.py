"""YOLO segmentation: a folder of photographs, one text file of polygons an image, and data.yaml.

Format: Ultralytics' `class x1 y1 x2 y2 …`, a line an instance, coordinates as shares of width and height. An
instance is one ring: holes and parts are joined in by bridges. Rings run through the centres of a mask's
outermost pixels, which is where Ultralytics' own filling (`data/utils.py` polygon2mask) wants them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from fastsam_batch.errors import InputError
from fastsam_batch.export.file_names import FileNames
from fastsam_batch.export.folder import Folder
from fastsam_batch.export.ids import fraction_of
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.export.shapes import Polygons
from fastsam_batch.masks.polygons import Ring
from fastsam_batch.storage import Uri


def write_yolo(
    uri: Uri,
    images: Iterable[ExportImage],
    categories: Sequence[str],
    polygons: Polygons,
    val_fraction: float,
    copy_images: bool,
) -> dict[str, int]:
    """Write a YOLO-seg dataset to a new folder; how many images went to train and to val.

    An image is in val by its image_id alone, about `val_fraction` of all. Where one of the two is empty, data.yaml
    names the other for both, as Ultralytics wants a folder for each. Photographs are copied where
    `copy_images`. images.jsonl says which image_id is which file.
    Raises InputError for a folder that is not empty, a wrong fraction, and a photograph that cannot be read.
    """
    if not 0 <= val_fraction < 1:
        raise InputError(f"--val-fraction is {val_fraction:g}; give a share from 0 to below 1")
    names = FileNames()
    with Folder(uri) as folder:
        split_sizes = {"train": 0, "val": 0}
        index: list[str] = []
        for image in images:
            split = "val" if fraction_of(image.image_id) < val_fraction else "train"
            split_sizes[split] += 1
            stem = names.stem_of(image.image_id)
            lines = [line for mask in image.masks if (line := _line(image, mask, polygons))]
            folder.write(f"labels/{split}/{stem}.txt", "".join(lines).encode())
            entry = {"image_id": image.image_id, "labels": f"labels/{split}/{stem}.txt"}
            if copy_images:
                entry["image"] = folder.copy_photograph(image, f"images/{split}/{stem}")
            index.append(f"{json.dumps(entry, ensure_ascii=False)}\n")
        folder.settle()  # data.yaml is last: where it is, all is
        folder.write("images.jsonl", "".join(index).encode())
        val = "val" if split_sizes["val"] else "train"
        train = "train" if split_sizes["train"] else val
        folder.settle()
        folder.write("data.yaml", _data_yaml(categories, train, val).encode())
    return split_sizes


def _line(image: ExportImage, mask: ExportMask, polygons: Polygons) -> str | None:
    ring = polygons.through_pixels(image, mask)
    return None if ring is None else f"{mask.label} {_shares(ring, image.width, image.height)}\n"


def _shares(ring: Ring, width: int, height: int) -> str:
    # A vertex lies in the middle of a pixel, so that a photograph has few different numbers.
    columns, rows = (ring - 0.5).astype(np.int64).T.tolist()
    x, y = _middles(width), _middles(height)
    return " ".join([f"{x[column]} {y[row]}" for column, row in zip(columns, rows, strict=True)])


@lru_cache(maxsize=64)
def _middles(side: int) -> list[str]:
    """The middle of each pixel of a side as its share: five digits place it within a twentieth of one of 10,000."""
    return [f"{(place + 0.5) / side:.5f}" for place in range(side)]


def _data_yaml(categories: Sequence[str], train: str, val: str) -> str:
    # A JSON string is a YAML string, whatever is in it. Without `path`, Ultralytics takes this file's folder.
    names = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(categories))
    return f"train: images/{train}\nval: images/{val}\nnames:\n{names}"
