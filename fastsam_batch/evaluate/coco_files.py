"""Labelled objects and results in COCO's JSON forms, COCO's own and LVIS's."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.export.pairing import truth_name
from fastsam_batch.masks.rle import foreground_runs_of
from fastsam_batch.storage import filesystem, read_whole, redact

CocoRle = dict[str, Any]
_REACH = 4  # image sides from its corner that a polygon may go


@dataclass(frozen=True)
class Objects:
    """n objects of one image: labelled ones, or found ones with `scores`.

    `rles` COCO dicts, None where there are boxes only; `boxes_xywh` float64 [n, 4] in pixels; `areas` float64 [n]
    and `crowd` bool [n] as the annotations say; `categories` int64 [n]; `scores` float64 [n].
    """

    rles: list[CocoRle] | None
    boxes_xywh: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    categories: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class TruthImage:
    """One labelled image: its id, file name with its folders, size (height, width) in pixels, and annotations."""

    id: int
    file_name: str
    size_hw: tuple[int, int]
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def objects(self) -> Objects:
        """The annotations as objects; polygons become masks as pycocotools makes them.

        Raises InputError for a segmentation that is none.
        """
        found = _objects(self.annotations, self.size_hw, np.ones(len(self.annotations)), "--ground-truth")
        areas = [row.get("area", own) for row, own in zip(self.annotations, found.areas.tolist(), strict=True)]
        return replace(found, areas=np.array(areas, np.float64))


def read_truth_images(uri: str) -> list[TruthImage]:
    """Images of an `instances.json` (COCO or LVIS) by ascending id. Raises InputError for another file."""
    document = _load(uri, "--ground-truth")
    try:
        images = {
            row["id"]: TruthImage(row["id"], truth_name(row), (int(row["height"]), int(row["width"])))
            for row in document["images"]
        }
        for annotation in document["annotations"]:
            _check_numbers(annotation)
            _forget_no_mask(annotation)
            if annotation["image_id"] not in images:
                raise ValueError(f"an annotation's image_id {annotation['image_id']!r} is no image's id")
            images[annotation["image_id"]].annotations.append(annotation)
        return [images[key] for key in sorted(images)]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"--ground-truth {redact(uri)}: is not COCO instances ({type(error).__name__}: {error}); "
            "it needs images and annotations"
        ) from error


def read_category_names(uri: str) -> dict[int, str]:
    """Names of an `instances.json`'s categories by id.

    Raises InputError for another file, and for LVIS's, whose images are labelled for some categories only.
    """
    document = _load(uri, "--ground-truth")
    try:
        if any("neg_category_ids" in row for row in document["images"]):
            raise InputError(
                f"--ground-truth {redact(uri)}: is LVIS, whose images are labelled for some categories only, and "
                "COCO's AP would be wrong; name COCO instances, or measure it by `evaluate proposals`"
            )
        return {row["id"]: row["name"] for row in document["categories"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"--ground-truth {redact(uri)}: lists no categories with id and name") from error


def require_masks(truths: Sequence[TruthImage], uri: str) -> None:
    """Raise InputError where an annotation of the file at `uri` has no mask."""
    for truth in truths:
        if any("segmentation" not in annotation for annotation in truth.annotations):
            raise InputError(
                f"--ground-truth {redact(uri)}: an annotation of image {truth.id} has no segmentation, so masks cannot "
                "be measured; name a file with masks, or measure --results that are boxes"
            )


def read_results(uri: str, option: str = "--results", needed: Collection[str] = ()) -> dict[int, list[dict[str, Any]]]:
    """Rows of a COCO results file by image id, each with what is `needed`.

    Raises InputError, naming the option, for another file.
    """
    document = _load(uri, option)
    by_image: dict[int, list[dict[str, Any]]] = {}
    try:
        for row in document:
            _forget_no_mask(row)
            if "segmentation" not in row and "bbox" not in row:
                raise KeyError("segmentation or bbox")
            for name in ("score", *needed):
                row[name]
            _check_numbers(row)
            by_image.setdefault(row["image_id"], []).append(row)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{option} {redact(uri)}: is not a COCO results file ({type(error).__name__}: {error}); "
            "it is a list of image_id, category_id, score and segmentation or bbox"
        ) from error
    return by_image


def result_objects(rows: Sequence[dict[str, Any]], size_hw: tuple[int, int]) -> Objects:
    """Results of one image as objects. Masks without a box get their tight one. Raises InputError for a wrong one."""
    return _objects(rows, size_hw, np.array([row["score"] for row in rows], np.float64), "--results")


def _forget_no_mask(row: dict[str, Any]) -> None:
    """Many files of boxes hold an empty segmentation, which is none."""
    if "segmentation" in row and not row["segmentation"]:
        del row["segmentation"]


def _check_numbers(row: dict[str, Any]) -> None:
    """Raise TypeError, ValueError or OverflowError for a box, score, area or category that is none."""
    box = row.get("bbox")
    if any(isinstance(number, str) for number in box or ()):
        raise TypeError(f"bbox {box} is text")
    if box and not (len(box) == 4 and np.isfinite(np.array(box, np.float64)).all()):
        raise ValueError(f"bbox {box} is not x, y, width and height")
    for name in ("score", "area", "category_id"):
        if name in row and not np.isfinite(float(row[name])):
            raise ValueError(f"{name} {row[name]} is not a number")
    if "category_id" in row and np.int64(row["category_id"]) != float(row["category_id"]):
        raise ValueError(f"category_id {row['category_id']} is not a whole number")


def _objects(
    rows: Sequence[dict[str, Any]], size_hw: tuple[int, int], scores: NDArray[np.float64], option: str
) -> Objects:
    """Rows of one image as objects, each mask's area that of its pixels."""
    where = f"{option}: image {rows[0].get('image_id')}" if rows else option
    rles, areas = None, None
    if all("segmentation" in row for row in rows):
        rles = [_rle(row["segmentation"], size_hw, where) for row in rows]
        areas = _areas(rles, size_hw, where)
    boxes = np.zeros((len(rows), 4))
    for index, row in enumerate(rows):
        boxes[index] = row["bbox"] if row.get("bbox") else coco_mask.toBbox(_of(rles, index, where))
    return Objects(
        rles,
        boxes,
        boxes[:, 2] * boxes[:, 3] if areas is None else areas,
        np.array([bool(row.get("iscrowd", 0)) for row in rows], np.bool_),
        np.array([row.get("category_id", 1) for row in rows], np.int64),
        scores,
    )


def _of(rles: list[CocoRle] | None, index: int, where: str) -> CocoRle:
    if rles is None:
        raise InputError(f"{where}: one object has no box and one no mask; give all objects a box, or all a mask")
    return rles[index]


def _rle(segmentation: Any, size_hw: tuple[int, int], where: str) -> CocoRle:
    """A COCO dict of polygons or of runs, compressed or not. Raises InputError for another, and for another size."""
    try:
        if isinstance(segmentation, list):
            if len(segmentation[0]) < 5 and not isinstance(segmentation[0], dict):
                raise ValueError("a polygon has fewer than three points")
            _check_reach(segmentation, max(size_hw))
            return dict(coco_mask.merge(coco_mask.frPyObjects(segmentation, *size_hw)))
        found = tuple(segmentation["size"])
        if found == tuple(size_hw):
            plain = isinstance(segmentation["counts"], list)
            return dict(coco_mask.frPyObjects(segmentation, *size_hw) if plain else segmentation)
        height, width = found
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(_no_mask(where, error)) from error
    raise InputError(
        f"{where}: a mask has the size {height} x {width} and the image {size_hw[0]} x {size_hw[1]} "
        "(height x width); both must be of the same photograph, after its EXIF orientation"
    )


def _check_reach(polygons: list[Any], side: int) -> None:
    """Raise ValueError for a point far outside the image or nowhere, to which pycocotools would walk pixel by pixel."""
    for polygon in polygons:
        if isinstance(polygon, list) and not (np.abs(np.array(polygon, np.float64)) <= _REACH * side).all():
            raise ValueError(f"a polygon has a point more than {_REACH} times the image's side away")


def _areas(rles: Sequence[CocoRle], size_hw: tuple[int, int], where: str) -> NDArray[np.float64]:
    """Pixels of masks of one image, float64 [n]. Raises InputError for runs that do not fill it, which pycocotools
    would compare for ever; its own `area` takes no more than 255 masks.
    """
    try:
        texts = [counts.decode() if isinstance(counts := rle["counts"], bytes) else counts for rle in rles]
        runs = foreground_runs_of(texts, size_hw) if texts else []
    except (TypeError, ValueError) as error:
        raise InputError(_no_mask(where, error)) from error
    return np.array([(ends - starts).sum() for starts, ends in runs], np.float64)


def _no_mask(where: str, error: Exception) -> str:
    return f"{where}: a segmentation is neither polygons nor RLE ({error}); write it as COCO has it"


def _load(uri: str, option: str) -> Any:
    fs, path = filesystem(uri)
    try:
        return json.loads(read_whole(fs, path))
    except FileNotFoundError as error:
        raise InputError(f"{option} {redact(uri)}: no such file") from error
    except OutageError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{option} {redact(uri)}: cannot be read as JSON ({error})") from error
