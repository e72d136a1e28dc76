"""SA-1B: one JSON an image with its masks as COCO RLE, as the Segment Anything data set has them.

`predicted_iou` is the detection's score and `crop_box` the whole image; no point made a mask, so `point_coords`
is empty. With classes, `category` names a mask's, which SA-1B has not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from fastsam_batch.export.file_names import FileNames
from fastsam_batch.export.folder import Folder
from fastsam_batch.export.ids import image_number, mask_number
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.storage import Uri


def write_sa1b(uri: Uri, images: Iterable[ExportImage], categories: Sequence[str] | None, copy_images: bool) -> None:
    """Write a JSON an image to a new folder, beside its photograph where `copy_images`.

    `file_name` is the copy's name, or the image_id. Raises InputError for a folder that is not empty and an
    unreadable photograph.
    """
    names = FileNames()
    with Folder(uri) as folder:
        for image in images:
            stem = names.stem_of(image.image_id)
            file_name = folder.copy_photograph(image, stem) if copy_images else image.image_id
            document = {
                "image": {
                    "image_id": image_number(image.image_id),
                    "width": image.width,
                    "height": image.height,
                    "file_name": file_name,
                },
                "annotations": [_annotation(image, mask, categories) for mask in image.masks],
            }
            folder.write(f"{stem}.json", json.dumps(document, ensure_ascii=False).encode())


def _annotation(image: ExportImage, mask: ExportMask, categories: Sequence[str] | None) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "id": mask_number(image.image_id, mask.mask_index),
        "segmentation": mask.rle.to_coco(),
        "bbox": list(mask.bbox_xywh),
        "area": mask.area,
        "predicted_iou": round(mask.score, 6),
        "stability_score": round(mask.stability, 6),
        "crop_box": [0, 0, image.width, image.height],
        "point_coords": [],
    }
    return annotation if categories is None else annotation | {"category": categories[mask.label]}
