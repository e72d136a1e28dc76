"""CVAT: "CVAT for images 1.1" XML with masks, or a zip that CVAT imports as "COCO 1.0".

Format: https://docs.cvat.ai, "XML annotation format". A mask's runs go row by row inside its box, background
first. Larger masks get a lower `z_order`, so that small ones lie on top.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from fastsam_batch.errors import InputError
from fastsam_batch.export.coco import write_document
from fastsam_batch.export.ids import image_number
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.export.xml import quoted
from fastsam_batch.masks.rle import decode_in_box
from fastsam_batch.storage import Uri, ends_in, open_result, redact

COCO_MEMBER = "annotations/instances_default.json"
_REMEDY = "end the output's name in .zip, which is JSON"
_AS_IT_IS = {"\r": "&#13;"}  # else a reader makes a line feed of it, and no mask has this label
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a date in the file would make each export another one


def write_cvat(uri: Uri, images: Iterable[ExportImage], categories: Sequence[str], info: dict[str, Any]) -> None:
    """Write what CVAT imports to `uri`, as a stream: `.xml` or `.zip`. Both lose nothing.

    CVAT finds images by their names, which are the image_ids, and refuses the file where a task has none of that
    name. Raises InputError for another ending, for a name with
    a character that XML cannot hold, and where the file cannot be written.
    """
    if not ends_in(uri, (".xml", ".zip")):
        raise InputError(
            f"cannot tell CVAT's formats apart by {redact(uri)}; end its name in .xml (CVAT for images 1.1) "
            "or .zip (COCO 1.0)"
        )
    with open_result(uri) as file:
        if ends_in(uri, ".xml"):
            for line in _xml(images, categories):
                file.write(line.encode())
            return
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            member = zipfile.ZipInfo(COCO_MEMBER, _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as document:
                write_document(document, images, categories, info)


def _xml(images: Iterable[ExportImage], categories: Sequence[str]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    yield "  <meta>\n    <task>\n      <mode>annotation</mode>\n      <labels>\n"
    labels = [quoted(category, "the class", _REMEDY) for category in categories]
    for category in categories:
        yield f"        <label>\n          <name>{escape(category, _AS_IT_IS)}</name>\n          <type>mask</type>\n"
        yield "          <attributes>\n          </attributes>\n        </label>\n"
    yield "      </labels>\n    </task>\n  </meta>\n"
    for image in images:
        name = quoted(image.image_id, "the image", _REMEDY)
        # CVAT takes the id for a frame's number where it knows no image of that name, and puts the masks there.
        number = image_number(image.image_id)
        yield f'  <image id="{number}" name={name} width="{image.width}" height="{image.height}">\n'
        by_size = sorted(image.masks, key=lambda mask: (-mask.area, mask.mask_index))
        for z_order, mask in enumerate(by_size):
            yield _mask(mask, labels[mask.label], z_order)
        yield "  </image>\n"
    yield "</annotations>\n"


def _mask(mask: ExportMask, label: str, z_order: int) -> str:
    x, y, width, height = mask.bbox_xywh
    runs = ", ".join(map(str, _row_runs(mask)))
    return (
        f'    <mask label={label} source="auto" occluded="0" rle="{runs}" '
        f'left="{x}" top="{y}" width="{width}" height="{height}" z_order="{z_order}">\n    </mask>\n'
    )


def _row_runs(mask: ExportMask) -> list[int]:
    """Run lengths row by row in the mask's box, background first and in turns."""
    pixels = decode_in_box(mask.rle, mask.bbox_xywh).reshape(-1)
    turns = np.flatnonzero(np.diff(pixels, prepend=False))
    lengths: list[int] = np.diff(turns, prepend=0, append=len(pixels)).tolist()
    return lengths
