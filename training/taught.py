"""Masks that models made for photographs without labels, kept in a file: JSON, a list for each file name."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle
from training.photographs import Photograph, Thing

log = logging.getLogger("training.taught")

SAME = 0.8  # IoU above which two masks are one
NAMELESS = "thing"


@dataclass(frozen=True)
class TaughtMask:
    """A mask, how sure the model was, and the thing's name where it has one."""

    rle: Rle
    score: float
    name: str | None = None


def taught_by(
    masks_of: Callable[[Photograph], list[TaughtMask]], photographs: Sequence[Photograph]
) -> dict[str, list[TaughtMask]]:
    """What a model says of each photograph, by the names of their files."""
    taught: dict[str, list[TaughtMask]] = {}
    for number, photograph in enumerate(photographs, start=1):
        taught[photograph.path.name] = masks_of(photograph)
        if number % 100 == 0 or number == len(photographs):
            log.info("%d of %d photographs, %d masks", number, len(photographs), sum(map(len, taught.values())))
    return taught


def write_taught(taught: Mapping[str, Sequence[TaughtMask]], path: Path) -> None:
    """Masks by the names of their photographs' files."""
    document = {
        file_name: [
            {"size": mask.rle.size, "counts": mask.rle.counts, "score": round(mask.score, 3)}
            | ({"name": mask.name} if mask.name else {})
            for mask in masks
        ]
        for file_name, masks in taught.items()
    }
    path.write_text(json.dumps(document), encoding="utf-8")


def read_taught(paths: Sequence[Path], photographs: Sequence[Photograph]) -> list[Photograph]:
    """The captioned of `photographs` for which the files have masks, with these as their things.

    Of masks that are one the first is taken, those of earlier files before those of later ones. Raises InputError for
    a file of another kind.
    """
    by_name: dict[str, list[Thing]] = {}
    for path in paths:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            things = {name: [_thing(each) for each in of] for name, of in document.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"--taught {path}: is not what training.things or training.segmenter.teach writes ({error})"
            ) from error
        for name, of in things.items():
            by_name[name] = _with_others(by_name.get(name, []), of)
    return [
        replace(photograph, things=tuple(by_name[photograph.path.name]))
        for photograph in photographs
        if photograph.captions and by_name.get(photograph.path.name)
    ]


def _with_others(things: list[Thing], others: list[Thing]) -> list[Thing]:
    if not things or not others:
        return things or others
    overlaps = coco_mask.iou(
        [each.rle.to_coco() for each in others], [each.rle.to_coco() for each in things], [0] * len(things)
    )
    return things + [other for other, same in zip(others, overlaps, strict=True) if same.max() <= SAME]


def _thing(each: dict[str, Any]) -> Thing:
    rle = Rle.from_coco(each)
    x, y, box_width, box_height = (int(value) for value in coco_mask.toBbox(rle.to_coco()))
    box = (x, y, box_width, box_height)
    return Thing(each.get("name", NAMELESS), rle, box, float(coco_mask.area(rle.to_coco())))
