"""Salient objects, buildings and defects: stored masks chosen by a prompt, against drawn masks in a folder.

Layouts: DUTS and ECSSD, Inria and WHU (a drawn mask has its photograph's name), MVTec AD
(`ground_truth/KIND/000_mask.png` for `test/KIND/000.png`; photographs in `test/good` have no defect).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.errors import InputError
from fastsam_batch.evaluate.region_scores import (
    PixelScores,
    Region,
    aupro,
    auroc,
    overlap_scores,
    pixel_scores,
    regions_of,
)
from fastsam_batch.evaluate.stored import stored_masks
from fastsam_batch.export.images import ExportImage
from fastsam_batch.export.pairing import path_ends
from fastsam_batch.images import IMAGE_SUFFIXES
from fastsam_batch.masks.rle import decode_in_box
from fastsam_batch.masks.runs import rle_of, runs_of_pixels
from fastsam_batch.masks.select import Box, ImageMasks, Point, select

PromptKind = Literal["everything", "point", "box"]
_NORMAL = "good"  # MVTec's folder of photographs without a defect
_GREY = 8  # levels between the channels of what JPEG leaves of grey
_COARSE = 4  # bits of each channel that do not tell colours apart
_DRAWN_COLOURS = 64  # a mask in JPEG has some 30; of 103 photographs of COCO the plainest has 96
Pair = tuple[ExportImage, Path | None]


def drawn_masks(folder: Path) -> dict[str, Path]:
    """Drawn masks below a folder by their path without ending and `_mask`.

    Raises InputError where there is none, or two have one path.
    """
    if not folder.is_dir():
        raise InputError(f"--ground-truth {folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            key = path.relative_to(folder).with_suffix("").as_posix().removesuffix("_mask")
            if key in found:
                raise InputError(f"--ground-truth {folder}: {found[key].name} and {path.name} are both masks of {key}")
            found[key] = path
    if not found:
        raise InputError(f"--ground-truth {folder}: holds no picture of a mask")
    return found


def pair_regions(
    image_ids: Iterable[str], images: Iterable[ExportImage], drawn: dict[str, Path], lacking: list[str] | None = None
) -> Iterator[Pair]:
    """Each photograph that has a drawn mask, by the end of its path, or that lies in a folder `good` beside folders of
    such. `lacking` gets the drawn masks whose photographs the corpus lacks; `image_ids` are those of all `images`.

    So MVTec's photographs for training and validation do not count, nor those of its other categories. Raises
    InputError where none has a mask, and where a drawn mask fits two photographs.
    """
    tested = {path.parent.parent for path in map(_path, image_ids) if _key(path, drawn)}
    seen: dict[str, str] = {}
    for image in images:
        path = _path(image.image_id)
        key = _key(path, drawn)
        if key is None:
            if any(folder.name == _NORMAL and folder.parent in tested for folder in path.parents):
                yield image, None
            continue
        if key in seen:
            raise InputError(f"{drawn[key]} fits both {seen[key]} and {image.image_id}; name a folder further up")
        seen[key] = image.image_id
        yield image, drawn[key]
    if not seen:
        raise InputError("the corpus holds no photograph that --ground-truth has a mask of; names must be the same")
    if lacking is not None:
        lacking += drawn.keys() - seen.keys()


def _path(image_id: str) -> PurePosixPath:
    return PurePosixPath(image_id.replace("#", "/")).with_suffix("")


def _key(path: PurePosixPath, drawn: Mapping[str, Path]) -> str | None:
    """Of the drawn masks the one that a photograph's path ends in."""
    return next((end for end in path_ends(str(path)) if end in drawn), None)


def region_figures(pairs: Iterable[Pair], prompts: Iterable[PromptKind], *, smallest: bool) -> dict[str, Any]:
    """Mean IoU, F-beta and MAE an image, AUROC and AUPRO over all pixels, for each kind of prompt.

    Prompts are taken from the drawn regions (8-connected): `box` gives each one's box, `point` its pixel farthest
    from its edge, `everything` takes the stored mask with the highest IoU, the best that a choice could do. The
    masks chosen for an image are one prediction; for the two curves a pixel's score is the highest of their scores.
    """
    rows: dict[PromptKind, list[dict[str, float]]] = {prompt: [] for prompt in prompts}
    pixels: dict[PromptKind, list[PixelScores]] = {prompt: [] for prompt in rows}
    images = without = 0
    for image, path in pairs:
        truth = np.zeros((image.height, image.width), np.bool_) if path is None else read_drawn(path, image)
        images += 1
        without += not truth.any()
        for prompt in rows:
            predicted, scores = predict(image, truth, prompt, smallest=smallest)
            rows[prompt].append(overlap_scores(predicted, truth))
            pixels[prompt].append(pixel_scores(scores, truth))
    figures = {}
    for prompt, of_images in rows.items():
        means = {name: float(np.mean([row[name] for row in of_images])) for name in ("IoU", "F_beta", "MAE")}
        figures[prompt] = {**means, "AUROC": auroc(pixels[prompt]), "AUPRO": aupro(pixels[prompt])}
    return {"images": images, "images_without_region": without, "figures": figures}


def read_drawn(path: Path, image: ExportImage) -> NDArray[np.bool_]:
    """A drawn mask, bool [h, w]: what is brighter than half of its brightest value.

    Raises InputError for a file that cannot be read, is a photograph or has another size than the image.
    """
    values = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if values is None:
        raise InputError(f"{path}: is not a picture that can be read; save the mask as PNG")
    if _has_many_colours(path):
        raise InputError(f"{path}: is a photograph, not a drawn mask; name the folder of the masks by --ground-truth")
    if values.shape != (image.height, image.width):
        raise InputError(
            f"{path}: is {values.shape[1]} x {values.shape[0]} pixels and {image.image_id} is {image.width} x "
            f"{image.height}; both must have one size"
        )
    return np.asarray(values > values.max() / 2)


def _has_many_colours(path: Path) -> bool:
    """Whether a picture holds more colours than a drawing, also one in JPEG, and not shades of grey only."""
    colours = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8)
    if (np.ptp(colours, axis=2) <= _GREY).all():
        return False
    coarse = (colours >> _COARSE).reshape(-1, 3).astype(np.int32) @ [1, 1 << 8, 1 << 16]
    return len(np.unique(coarse)) > _DRAWN_COLOURS


def predict(
    image: ExportImage, truth: NDArray[np.bool_], prompt: PromptKind, *, smallest: bool
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """What a kind of prompt selects among an image's masks, bool [h, w], and each pixel's score, float64 [h, w].

    With `smallest` a point selects the smallest mask around it only.
    """
    size, whole = (image.height, image.width), (0, 0, image.width, image.height)
    masks = stored_masks(image)
    chosen = _chosen(image, masks, regions_of(truth), prompt, smallest) if image.masks else []
    predicted = decode_in_box(rle_of(select(masks, chosen=chosen).union, size), whole)
    scores = np.zeros(size)
    for mask in (image.masks[index] for index in chosen):
        x, y, width, height = mask.bbox_xywh
        part = scores[y : y + height, x : x + width]
        np.maximum(part, mask.score * decode_in_box(mask.rle, mask.bbox_xywh), out=part)
    return predicted, scores


def _chosen(
    image: ExportImage, masks: ImageMasks, regions: Iterator[Region], prompt: PromptKind, smallest: bool
) -> list[int]:
    if prompt == "point":
        return select(masks, foreground=[_middle(region) for region in regions], smallest=smallest).masks
    if prompt == "box":
        return select(masks, boxes=[_box(region) for region in regions]).masks
    of_regions = (runs_of_pixels(region.mask, region.x, region.y, image.height) for region in regions)
    truths = [rle_of(runs, masks.size_hw).to_coco() for runs in of_regions]
    if not truths:
        return []
    ious = coco_mask.iou([mask.rle.to_coco() for mask in image.masks], truths, [0] * len(truths))
    return sorted({int(index) for index, iou in zip(ious.argmax(0), ious.max(0), strict=True) if iou > 0})


def _box(region: Region) -> Box:
    height, width = region.mask.shape
    return float(region.x), float(region.y), float(region.x + width), float(region.y + height)


def _middle(region: Region) -> Point:
    """A region's pixel (x, y) that is farthest from its edge; the image's border is one."""
    framed = np.pad(region.mask.view(np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return float(region.x + x), float(region.y + y)
