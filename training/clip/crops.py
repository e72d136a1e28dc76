"""Crops to train on, made once, exactly as the embedder makes them, and kept as bytes on disk.

`crops.bin` holds their bytes, uint8 RGB [n, size, size, 3]; `rows.json` says of each where it comes from.
Regions are the labelled masks, whole photographs, and the built-in segmenter's masks: on labelled
photographs those that agree with a label take it, those that touch none are background; on captioned ones
the captions' nouns are their labels, to be dealt out by the model as it learns; a woman is one of the persons
and none of the other masks. Sprites are laid over captioned photographs and cropped from there (`sprites.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.crops import image_pyramid, mask_crop
from fastsam_batch.models.segmenter import Segmentation, Segmenter
from fastsam_batch.storage import write_result
from training.clip.nouns import kinds_of, nouns_of
from training.photographs import Photograph, read_image

KINDS = ("masked", "context")
MIN_AREA = 20 * 20  # pixels of a labelled mask
MIN_FOUND_AREA = 28 * 28  # pixels of a mask the segmenter found
FOUND_A_CAPTIONED = 8
BACKGROUND_A_LABELLED = 6
SAME_IOU, OTHER_IOU = 0.6, 0.1


@dataclass(frozen=True)
class Row:
    """What a crop shows. `group` is labelled, taught, whole, caption, found, background or sprite.

    `name` is its label where it has one; `captions` those of its photograph, `nouns` what of them it may be.
    """

    group: str
    source: str
    kind: str
    name: str | None = None
    captions: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Crops:
    """Pixels uint8 [n, size, size, 3] and a Row for each."""

    pixels: NDArray[np.uint8]
    rows: list[Row]


def write_crops(crops: Iterable[tuple[Row, NDArray[np.uint8]]], folder: Path, size: int) -> None:
    """Keep crops of `size` pixels in `folder`. Raises InputError where the rows cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    partial = folder / "crops.partial"
    with partial.open("wb") as file:
        for row, pixels in crops:
            rows.append(row)
            file.write(pixels.tobytes())
    partial.rename(folder / "crops.bin")
    document = {"size": size, "rows": [asdict(row) for row in rows]}
    # Last, and whole or not at all: where it is, the crops are not made again.
    write_result(folder / "rows.json", json.dumps(document).encode())


def read_crops(folder: Path) -> Crops:
    """What `write_crops` left, its pixels mapped, not loaded."""
    document = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    rows = [
        Row(**{**row, "captions": tuple(row["captions"]), "nouns": tuple(row["nouns"])}) for row in document["rows"]
    ]
    size = document["size"]
    pixels = np.memmap(folder / "crops.bin", np.uint8, "r", shape=(len(rows), size, size, 3))
    return Crops(pixels, rows)


def all_crops(
    photographs: list[Photograph], segmenter: Segmenter | None, size: int, fill_rgb: NDArray[np.uint8]
) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
    """The crops of every photograph; without a segmenter, of labels and whole ones only."""
    for photograph in photographs:
        yield from crops_of(photograph, segmenter, size, fill_rgb)


def crops_of(
    photograph: Photograph, segmenter: Segmenter | None, size: int, fill_rgb: NDArray[np.uint8]
) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
    """Every crop of one photograph with its row."""
    image = read_image(photograph.path)
    pyramid = image_pyramid(image, size)

    def both(rle: Rle, box: NDArray[np.float32], group: str, **what: object) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
        for kind in KINDS:
            row = Row(group, photograph.source, kind, **what)  # type: ignore[arg-type]
            yield row, mask_crop(pyramid, rle, box, size, fill_rgb, kind)

    of_things = "taught" if photograph.captions else "labelled"
    nouns = tuple(dict.fromkeys(noun for caption in photograph.captions for noun in nouns_of(caption)))

    def kinds(name: str) -> tuple[str, ...]:
        return tuple(noun for noun in nouns if noun in kinds_of(name))

    for thing in photograph.things:
        if thing.area >= MIN_AREA:
            box = np.array(thing.box_xywh, np.float32)
            yield from both(thing.rle, box, of_things, name=thing.name, nouns=kinds(thing.name))
    found = None
    if segmenter is not None and (photograph.things or photograph.captions):
        found = segmenter.segment([image])[0]
    agreeing = dict(_agreeing(photograph, found)) if found else {}
    if photograph.things and not photograph.captions:
        if found is not None:
            for index, name in agreeing.items():
                group = of_things if name else "background"
                yield from both(found.rles[index], found.bboxes_xywh[index], group, name=name)
        return
    height, width = image.shape[:2]
    everything = Rle(
        (height, width), coco_mask.encode(np.ones((height, width), np.uint8, order="F"))["counts"].decode()
    )
    box = np.array([0, 0, width, height], np.float32)
    group = "caption" if photograph.captions else "whole"
    row = Row(group, photograph.source, "context", photograph.name, photograph.captions, nouns)
    yield row, mask_crop(pyramid, everything, box, size, fill_rgb, "context")
    if not photograph.captions or found is None:
        return
    named = {index: name for index, name in agreeing.items() if name}
    told = {noun for thing in photograph.things for noun in (thing.name, *kinds_of(thing.name))}
    others = tuple(noun for noun in nouns if noun not in told)
    for index, name in named.items():
        yield from both(found.rles[index], found.bboxes_xywh[index], of_things, name=name, nouns=kinds(name))
    large = [int(index) for index in np.flatnonzero(found.areas >= MIN_FOUND_AREA) if index not in named]
    for index in large[:FOUND_A_CAPTIONED]:
        yield from both(found.rles[index], found.bboxes_xywh[index], "found", nouns=others)


def _agreeing(photograph: Photograph, found: Segmentation) -> Iterator[tuple[int, str | None]]:
    """Found masks that are a labelled thing, with its name, and some that touch none, with None."""
    large = np.flatnonzero(found.areas >= MIN_FOUND_AREA)
    if not len(large) or not photograph.things:
        return
    iou = coco_mask.iou(
        [found.rles[index].to_coco() for index in large],
        [thing.rle.to_coco() for thing in photograph.things],
        [0] * len(photograph.things),
    )
    background = 0
    for index, overlaps in zip(large, iou, strict=True):
        best = int(np.argmax(overlaps))
        if overlaps[best] >= SAME_IOU:
            yield int(index), photograph.things[best].name
        elif overlaps[best] < OTHER_IOU and background < BACKGROUND_A_LABELLED:
            background += 1
            yield int(index), None
