"""Label Studio pre-labels: a folder of task files with predictions, and the labelling configuration.

Format: Label Studio's task JSON, `PolygonLabels` in percent of width and height, `BrushLabels` in its own
run-length code (`brush`). One region a part of a mask; the parts of one mask share an id before the dash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from string import Formatter
from typing import Any
from urllib.parse import quote

import numpy as np

from fastsam_batch.errors import InputError
from fastsam_batch.export.brush import brush_bytes
from fastsam_batch.export.file_names import FileNames
from fastsam_batch.export.folder import Folder
from fastsam_batch.export.ids import mask_number
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.export.shapes import Polygons
from fastsam_batch.export.xml import quoted
from fastsam_batch.masks.draw import PALETTE
from fastsam_batch.masks.polygons import Ring
from fastsam_batch.sources.locate import splits
from fastsam_batch.storage import Uri

# Label Studio reads a file of tasks whole, and refuses uploads above 250 MB.
_TASKS_BYTES = 32 << 20
_TASKS_A_FILE = 1000

_FIELDS = ("uri", "image_id", "file")
_OPENED = ("http", "https", "s3", "gs")

FROM_URI = "{uri}"
FROM_COPY = "/data/local-files/?d=images/{file}"


def write_label_studio(
    uri: Uri,
    images: Iterable[ExportImage],
    categories: Sequence[str],
    model_version: str,
    polygons: Polygons | None = None,
    image_url: str | None = None,
    copy_images: bool = False,
) -> dict[str, int]:
    """Write tasks-00001.json … and label_config.xml to a new folder; how many task files there are, and how many
    tasks name a photograph by an address that Label Studio cannot open.

    Masks are polygons where `polygons` says how, else brush regions; those it gives up are brush regions.
    `image_url` makes the address that Label Studio opens, of `{uri}`, and quoted for an address `{image_id}` and
    `{file}` (the copy's name): by default the photograph's own URI, or that of the copy as a local file of Label
    Studio. Raises InputError for a folder that is not empty, a wrong `image_url`, an unreadable photograph.
    """
    url = image_url or (FROM_COPY if copy_images else FROM_URI)
    _check_url(url, copy_images)
    names = FileNames()
    with Folder(uri) as folder:
        folder.write("label_config.xml", label_config(categories).encode())
        files, tasks, size, unopened = 0, list[str](), 0, 0
        for image in images:
            file = folder.copy_photograph(image, f"images/{names.stem_of(image.image_id)}") if copy_images else ""
            fields = {"uri": image.uri, "image_id": quote(image.image_id), "file": quote(file.removeprefix("images/"))}
            unopened += url == FROM_URI and not _opens(image.uri)
            task = _task(image, url.format(**fields), categories, model_version, polygons)
            tasks.append(json.dumps(task, ensure_ascii=False))
            size += len(tasks[-1])
            if size >= _TASKS_BYTES or len(tasks) == _TASKS_A_FILE:
                files += 1
                _write_tasks(folder, files, tasks)
                tasks, size = [], 0
        if tasks or not files:
            files += 1
            _write_tasks(folder, files, tasks)
    return {"task_files": files, "unopened_images": unopened}


def label_config(categories: Sequence[str]) -> str:
    """The labelling configuration of a project that shows the tasks.

    Raises InputError for a category with a character that XML cannot hold.
    """
    names = [quoted(category, "the class", "rename it") for category in categories]
    lines = ["<View>", '  <Image name="image" value="$image" zoom="true" zoomControl="true"/>']
    for tag, name in (("PolygonLabels", "polygon"), ("BrushLabels", "brush")):
        lines.append(f'  <{tag} name="{name}" toName="image">')
        for number, value in enumerate(names):
            red, green, blue = PALETTE[number % len(PALETTE)]
            lines.append(f'    <Label value={value} background="#{red:02x}{green:02x}{blue:02x}"/>')
        lines.append(f"  </{tag}>")
    return "\n".join([*lines, "</View>", ""])


def _opens(uri: str) -> bool:
    """Whether Label Studio opens an address: one of the web or of a store, and no member of a tar or row of Parquet."""
    return uri.partition("://")[0].lower() in _OPENED and not any(splits(uri))


def _check_url(url: str, copy_images: bool) -> None:
    wrong = f"--image-url {url!r} has a field that is none; use {{uri}}, {{image_id}} or {{file}}"
    try:
        # A name alone: `format` would take attributes, items and widths too.
        fields = [part[1:] for part in Formatter().parse(url) if part[1] is not None]
    except ValueError as error:  # a brace without its partner
        raise InputError(wrong) from error
    if not fields:
        raise InputError(f"--image-url {url!r} names no photograph; put {{uri}}, {{image_id}} or {{file}} into it")
    if any(name not in _FIELDS or spec or conversion for name, spec, conversion in fields):
        raise InputError(wrong)
    if "{file}" in url and not copy_images:
        raise InputError(f"--image-url {url!r} names {{file}}, a copied photograph; add --images copy")


def _write_tasks(folder: Folder, number: int, tasks: Sequence[str]) -> None:
    folder.settle()  # no task before its photograph
    lines = ",\n".join(tasks)
    folder.write(f"tasks-{number:05d}.json", f"[\n{lines}\n]\n".encode())


def _task(
    image: ExportImage, url: str, categories: Sequence[str], model_version: str, polygons: Polygons | None
) -> dict[str, Any]:
    # Label Studio draws in this order: large masks first, so that small ones lie on top and can be clicked.
    by_size = sorted(image.masks, key=lambda mask: (-mask.area, mask.mask_index))
    regions = [region for mask in by_size for region in _regions(image, mask, categories[mask.label], polygons)]
    scores = [mask.score for mask in image.masks]
    prediction = {
        "model_version": model_version,
        "score": round(sum(scores) / len(scores), 6) if scores else 0.0,
        "result": regions,
    }
    return {"data": {"image": url, "image_id": image.image_id}, "predictions": [prediction]}


def _regions(image: ExportImage, mask: ExportMask, category: str, polygons: Polygons | None) -> list[dict[str, Any]]:
    rings = polygons.along_edges(image, mask) if polygons else None
    name = f"{mask_number(image.image_id, mask.mask_index):014x}"
    common = {
        "to_name": "image",
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "score": round(mask.score, 6),
        "meta": {"mask_index": mask.mask_index},
    }
    if rings is None:
        code = brush_bytes(mask.rle, mask.bbox_xywh).tolist()
        value: dict[str, Any] = {"format": "rle", "rle": code, "brushlabels": [category]}
        return [{"id": name, "type": "brushlabels", "from_name": "brush", **common, "value": value}]
    regions = []
    for number, ring in enumerate(rings):
        value = {"points": _percent(ring, image), "closed": True, "polygonlabels": [category]}
        part = name if number == 0 else f"{name}-{number + 1}"
        regions.append({"id": part, "type": "polygonlabels", "from_name": "polygon", **common, "value": value})
    return regions


def _percent(ring: Ring, image: ExportImage) -> list[list[float]]:
    percent: list[list[float]] = np.round(100 * ring / (image.width, image.height), 6).tolist()
    return percent
