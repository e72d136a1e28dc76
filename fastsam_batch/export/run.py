"""The export job: from options to files and a summary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fastsam_batch
from fastsam_batch import storage
from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.errors import InputError
from fastsam_batch.export.budget import Budget
from fastsam_batch.export.coco import write_coco
from fastsam_batch.export.coco_results import read_ground_truth, write_coco_results
from fastsam_batch.export.cvat import write_cvat
from fastsam_batch.export.images import AGNOSTIC, ExportImage
from fastsam_batch.export.label_studio import write_label_studio
from fastsam_batch.export.sa1b import write_sa1b
from fastsam_batch.export.shapes import Polygons
from fastsam_batch.export.stream import Counts, Labeller, labelled_images, segmented_ids
from fastsam_batch.export.yolo import write_yolo
from fastsam_batch.ranges import check_range

RLE, POLYGON = "rle", "polygon"
COPY, URL, TRUTH, FRACTION = "--images copy", "--image-url", "--ground-truth", "--val-fraction"


@dataclass(frozen=True)
class Export:
    """What to export and how. `shape`, `tolerance` and `min_piece` None: the format's own.

    `categories` names the labels that `labeller` gives, one name where there is none. `tolerance` in pixels;
    `loss_report` is a JSON file to write. `copy_images`: put the photographs beside the labels, where the format is a
    folder; None: the format's own way. `val_fraction`: yolo's share of images for validation, a tenth for None.
    """

    format: str
    output: storage.Uri
    categories: tuple[str, ...] = (AGNOSTIC,)
    labeller: Labeller | None = None
    where: Where = None
    budget: Budget = field(default_factory=Budget)
    shape: str | None = None
    tolerance: float | None = None
    min_piece: int | None = None
    max_loss: float | None = None
    loss_report: storage.Uri | None = None
    copy_images: bool | None = None
    val_fraction: float | None = None
    image_url: str | None = None
    ground_truth: storage.Uri | None = None


@dataclass(frozen=True)
class _Format:
    """`shapes` it can write, its own first; `tolerance` and `min_piece` of its polygons; `options` that it alone takes.

    `write` does it and says what it made.
    """

    shapes: tuple[str, ...]
    tolerance: float
    min_piece: int
    write: Callable[[Export, Corpus, Iterator[ExportImage], Polygons | None], dict[str, Any]]
    options: tuple[str, ...] = ()


def export_labels(corpus: Corpus, export: Export) -> dict[str, Any]:
    """Write a corpus's masks as labels; the job's summary, with a loss report where polygons were written.

    Raises InputError for options that do not fit the format or each other, and where the output cannot be
    written.
    """
    format_, shape = _checked(export)
    polygons = _polygons(export, format_) if shape == POLYGON else None
    counts = Counts()
    images = labelled_images(corpus, export.budget, export.labeller, export.where, counts)
    made = format_.write(export, corpus, images, polygons)
    left_out, unwritten = dict(counts.left_out), Counter[int]()
    refused = polygons.refused if polygons else None
    for reason, by_label in (("max_loss", refused), ("not_in_ground_truth", made.pop("unwritten", None))):
        if by_label:
            left_out[reason] = by_label.total()
            unwritten.update(by_label)
    loss = polygons.loss.to_json() if polygons else None
    if export.loss_report:
        storage.write_result(export.loss_report, json.dumps(loss, indent=1, ensure_ascii=False).encode())
    return {
        "format": export.format,
        "shape": shape,
        "images": counts.images,
        "failed_images": counts.failed_images,
        "masks": counts.masks - unwritten.total(),
        "left_out": left_out,
        "labels": {name: counts.labels[number] - unwritten[number] for number, name in enumerate(export.categories)},
        **made,
        "loss": loss,
    }


def _checked(export: Export) -> tuple[_Format, str]:
    """The format, and the shape it writes. Raises InputError for options that do not fit it or each other."""
    if export.format not in FORMATS:
        raise InputError(f"--format {export.format} is unknown; the formats are {', '.join(FORMATS)}")
    format_ = FORMATS[export.format]
    shape = export.shape or format_.shapes[0]
    if shape not in format_.shapes:
        raise InputError(f"--format {export.format} has no shape {shape}; it has {' and '.join(format_.shapes)}")
    if shape == RLE and any(
        value is not None for value in (export.tolerance, export.min_piece, export.max_loss, export.loss_report)
    ):
        remedy = " or ask for --shape polygon" if POLYGON in format_.shapes else ""
        raise InputError(
            "--tolerance, --min-piece, --max-loss and --loss-report are about polygons, and "
            f"--format {export.format} writes RLE, which loses nothing; leave them out{remedy}"
        )
    for option, is_given in (
        (COPY, export.copy_images is True),
        (URL, export.image_url is not None),
        (TRUTH, export.ground_truth is not None),
        (FRACTION, export.val_fraction is not None),
    ):
        if is_given and option not in format_.options:
            having = " and ".join(name for name, each in FORMATS.items() if option in each.options)
            raise InputError(f"{option} is for {having}, and --format {export.format} has no use for it; leave it out")
    _check_places(export)
    check_range("--tolerance", export.tolerance, 0)
    check_range("--min-piece", export.min_piece, 0)
    check_range("--max-loss", export.max_loss, 0, 1)
    return format_, shape


def _check_places(export: Export) -> None:
    """Raise InputError where the export would write over what it reads or writes."""
    output = storage.absolute(export.output).rstrip("/")
    for option, place in (("--loss-report", export.loss_report), (TRUTH, export.ground_truth)):
        if place is not None and f"{storage.absolute(place)}/".startswith(f"{output}/"):
            raise InputError(f"{option} {storage.redact(place)}: is --output, or lies in it; name another place")


def _polygons(export: Export, format_: _Format) -> Polygons:
    tolerance = format_.tolerance if export.tolerance is None else export.tolerance
    min_piece = format_.min_piece if export.min_piece is None else export.min_piece
    return Polygons(tolerance, min_piece, export.max_loss)


def export_info(corpus: Corpus) -> dict[str, Any]:
    """Where the labels come from; without a date, so that an export repeated is the same file."""
    return {
        "description": f"Masks of {storage.redact(corpus.uri)}",
        "contributor": f"fastsam-batch {fastsam_batch.__version__}",
        "fingerprint": corpus.info["fingerprint"],
        "models": corpus.info["models"],
    }


def _coco(export: Export, corpus: Corpus, images: Iterator[ExportImage], polygons: Polygons | None) -> dict[str, Any]:
    write_coco(export.output, images, export.categories, export_info(corpus), polygons)
    return {}


def _yolo(export: Export, corpus: Corpus, images: Iterator[ExportImage], polygons: Polygons | None) -> dict[str, Any]:
    assert polygons is not None
    copied = export.copy_images is not False
    fraction = 0.1 if export.val_fraction is None else export.val_fraction
    return write_yolo(export.output, images, export.categories, polygons, fraction, copied)


def _label_studio(
    export: Export, corpus: Corpus, images: Iterator[ExportImage], polygons: Polygons | None
) -> dict[str, Any]:
    version = f"fastsam-batch {fastsam_batch.__version__} {corpus.info['fingerprint'][:12]}"
    copied = export.copy_images is True
    return write_label_studio(export.output, images, export.categories, version, polygons, export.image_url, copied)


def _sa1b(export: Export, corpus: Corpus, images: Iterator[ExportImage], polygons: Polygons | None) -> dict[str, Any]:
    write_sa1b(export.output, images, export.categories if export.labeller else None, export.copy_images is True)
    return {}


def _coco_results(
    export: Export, corpus: Corpus, images: Iterator[ExportImage], polygons: Polygons | None
) -> dict[str, Any]:
    ground_truth = read_ground_truth(export.ground_truth, segmented_ids(corpus)) if export.ground_truth else None
    unknown, unwritten = write_coco_results(
        export.output, images, export.categories, ground_truth, export.budget.rank_by
    )
    return {"images_not_in_ground_truth": unknown, "unwritten": unwritten} if ground_truth else {}


def _cvat(export: Export, corpus: Corpus, images: Iterator[ExportImage], polygons: Polygons | None) -> dict[str, Any]:
    write_cvat(export.output, images, export.categories, export_info(corpus))
    return {}


FORMATS: dict[str, _Format] = {
    "coco": _Format((RLE, POLYGON), 0.0, 0, _coco),
    "coco-results": _Format((RLE,), 0.0, 0, _coco_results, (TRUTH,)),
    "sa1b": _Format((RLE,), 0.0, 0, _sa1b, (COPY,)),
    "yolo": _Format((POLYGON,), 0.0, 0, _yolo, (COPY, FRACTION)),
    # An annotator drags vertices: as few as a pixel's play allows, and none around specks.
    "label-studio": _Format((POLYGON, RLE), 1.0, 16, _label_studio, (COPY, URL)),
    "cvat": _Format((RLE,), 0.0, 0, _cvat),
}
