"""COCO instances: one JSON of images, annotations and categories, masks as RLE or polygons.

Format: the COCO data format, "object detection". Ids are whole numbers from `ids`; `file_name` is the
image_id. `score`, `stability` and `mask_index` are extra keys of an annotation, `uri` of an image.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np

from fastsam_batch.errors import InputError
from fastsam_batch.export.ids import image_number, mask_number
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.export.shapes import Polygons
from fastsam_batch.masks.polygons import Ring
from fastsam_batch.storage import Uri, open_result, redact


def write_coco(
    uri: Uri,
    images: Iterable[ExportImage],
    categories: Sequence[str],
    info: dict[str, Any],
    polygons: Polygons | None,
) -> None:
    """Write COCO instances to `uri`, as a stream; categories are numbered from 1, `iscrowd` is always 0.

    Masks are compressed RLE, or polygons along pixel edges where `polygons` says how; those it gives up stay
    RLE. Raises InputError where the file cannot be written or two images share a number.
    """
    with open_result(uri) as file:
        write_document(file, images, categories, info, polygons)


def write_document(
    file: IO[bytes],
    images: Iterable[ExportImage],
    categories: Sequence[str],
    info: dict[str, Any],
    polygons: Polygons | None = None,
) -> None:
    """As `write_coco`, into an open binary file."""
    named = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(categories, start=1)]
    head = json.dumps({"info": info, "licenses": [], "categories": named}, ensure_ascii=False)
    file.write(head[:-1].encode() + b', "annotations": [')
    numbers: set[int] = set()
    # Images come with their masks, and lie aside until the list of annotations is closed.
    with tempfile.SpooledTemporaryFile(max_size=16 << 20) as aside:
        between = b"\n"
        for image in images:
            number = image_number(image.image_id)
            if number in numbers:
                raise InputError(
                    f"two images have the number {number}, one of them {image.image_id!r}; rename it and segment anew"
                )
            aside.write((b",\n" if numbers else b"\n") + _line(_image(image, number)))
            numbers.add(number)
            for mask in image.masks:
                file.write(between + _line(_annotation(image, mask, number, polygons)))
                between = b",\n"
        file.write(b'\n], "images": [')
        aside.seek(0)
        for line in aside:
            file.write(line)
    file.write(b"\n]}\n")


def _image(image: ExportImage, number: int) -> dict[str, Any]:
    size = {"width": image.width, "height": image.height}
    return {"id": number, "file_name": image.image_id, **size, **({"uri": redact(image.uri)} if image.uri else {})}


def _annotation(image: ExportImage, mask: ExportMask, number: int, polygons: Polygons | None) -> dict[str, Any]:
    rings = polygons.along_edges(image, mask) if polygons else None
    segmentation = mask.rle.to_coco() if rings is None else [_flat(ring) for ring in rings]
    annotation = {
        "id": mask_number(image.image_id, mask.mask_index),
        "image_id": number,
        "category_id": mask.label + 1,
        "segmentation": segmentation,
        "area": mask.area,
        "bbox": list(mask.bbox_xywh),
        "iscrowd": 0,
        "score": round(mask.score, 6),
        "stability": round(mask.stability, 6),
        "mask_index": mask.mask_index,
    }
    return annotation if mask.similarity is None else annotation | {"similarity": round(mask.similarity, 6)}


def _flat(ring: Ring) -> list[int]:
    # Simplified or not, vertices are pixel corners.
    corners: list[int] = ring.astype(np.int64).reshape(-1).tolist()
    return corners


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode()
