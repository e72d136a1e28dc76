"""The photographs the built-in models learn from, and the forty they never see.

A data folder holds any of coco-masks, coco-masks-more (COCO `instances.json`), coco-captions
(`captions.json`), caltech101 and grocery (`labels.csv`), each with its photographs under `images/`.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle

VALIDATION_PHOTOGRAPHS = 40
SOURCES = ("coco-masks", "coco-masks-more", "coco-captions", "caltech101", "grocery")
_MORE = "coco-masks-more"

# Folder names of Caltech-101 that are no plain English.
_CALTECH = {
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorcycle",
    "airplanes": "airplane",
    "bass": "fish",
    "brain": "brain",
    "car_side": "car",
    "cellphone": "cell phone",
    "cougar_body": "cougar",
    "cougar_face": "cougar face",
    "crocodile_head": "crocodile head",
    "emu": "emu bird",
    "ewer": "jug",
    "flamingo_head": "flamingo head",
    "garfield": "cartoon cat",
    "hawksbill": "sea turtle",
    "ibis": "ibis bird",
    "ketch": "sailboat",
    "snoopy": "cartoon dog",
    "water_lilly": "water lily",
    "windsor_chair": "wooden chair",
    "wild_cat": "wild cat",
    "yin_yang": "yin yang symbol",
}


@dataclass(frozen=True)
class Thing:
    """One labelled mask: `area` in pixels as the annotation gives it, `box_xywh` tight, in whole pixels."""

    name: str
    rle: Rle
    box_xywh: tuple[int, int, int, int]
    area: float


@dataclass(frozen=True)
class Photograph:
    """A file with what is known of it: masks with names, captions, or one name for the whole of it."""

    source: str
    path: Path
    things: tuple[Thing, ...] = ()
    captions: tuple[str, ...] = ()
    name: str | None = None


@dataclass
class Data:
    """Photographs to train on, the held-out ones, the 80 COCO names, and each source's digest."""

    train: list[Photograph] = field(default_factory=list)
    validation: list[Photograph] = field(default_factory=list)
    coco_names: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)


def read_data(folder: Path) -> Data:
    """Everything under `folder`. Raises InputError where coco-masks is missing."""
    if not (folder / "coco-masks" / "instances.json").is_file():
        raise InputError(f"--data {folder}: holds no coco-masks/instances.json")
    data = Data()
    labelled = list(_instances(folder, "coco-masks", data.coco_names))
    held_out = held_out_names([photograph.path.name for photograph in labelled])
    readers = {
        "coco-masks-more": lambda: _instances(folder, "coco-masks-more", []),
        "coco-captions": lambda: _captions(folder),
        "caltech101": lambda: _caltech(folder),
        "grocery": lambda: _grocery(folder),
    }
    for source, read in readers.items():
        if (folder / source).is_dir():
            labelled.extend(read())
    for photograph in labelled:
        # The captioned photographs are COCO's too: a held-out one is left out there as well.
        if photograph.path.name not in held_out:
            data.train.append(photograph)
        elif photograph.source == "coco-masks":
            data.validation.append(photograph)
    data.digests = {source: _digest(folder / source) for source in SOURCES if (folder / source).is_dir()}
    return data


def read_image(path: Path) -> NDArray[np.uint8]:
    """A photograph as uint8 RGB [height, width, 3]. Raises InputError where it is none."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path}: is not a photograph that can be read")
    return np.ascontiguousarray(image[:, :, ::-1])


def held_out_names(file_names: list[str], count: int = VALIDATION_PHOTOGRAPHS) -> set[str]:
    """The `count` file names whose SHA-256 comes first."""
    return set(sorted(file_names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count])


def split(photographs: list[Photograph], second: int) -> tuple[list[Photograph], list[Photograph]]:
    """`second` photographs of coco-masks-more kept apart too, in none of the other folders, and the rest.

    They are for weights that began from some which had seen coco-masks.
    """
    kept = held_out_names([photograph.path.name for photograph in photographs if photograph.source == _MORE], second)
    apart = [photograph for photograph in photographs if photograph.source == _MORE and photograph.path.name in kept]
    return apart, [photograph for photograph in photographs if photograph.path.name not in kept]


def _instances(folder: Path, source: str, names: list[str]) -> Iterator[Photograph]:
    document = json.loads((folder / source / "instances.json").read_text(encoding="utf-8"))
    by_id = {category["id"]: category["name"] for category in document["categories"]}
    names.extend(by_id.values())
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in document["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    for image in document["images"]:
        things = [
            _thing(annotation, by_id[annotation["category_id"]], image["height"], image["width"])
            for annotation in by_image.get(image["id"], [])
            if not annotation["iscrowd"]
        ]
        yield Photograph(
            source,
            folder / source / "images" / image["file_name"],
            things=tuple(thing for thing in things if thing.box_xywh[2] and thing.box_xywh[3]),
        )


def _thing(annotation: dict[str, Any], name: str, height: int, width: int) -> Thing:
    runs = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], height, width))
    x, y, box_width, box_height = (int(value) for value in coco_mask.toBbox(runs))
    rle = Rle((height, width), runs["counts"].decode("ascii"))
    return Thing(name, rle, (x, y, box_width, box_height), float(annotation["area"]))


def _captions(folder: Path) -> Iterator[Photograph]:
    document = json.loads((folder / "coco-captions" / "captions.json").read_text(encoding="utf-8"))
    for image in document["images"]:
        path = folder / "coco-captions" / "images" / image["file_name"]
        yield Photograph("coco-captions", path, captions=tuple(image["captions"]))


def _caltech(folder: Path) -> Iterator[Photograph]:
    for row in _rows(folder / "caltech101" / "labels.csv"):
        name = row["class"]
        if name != "BACKGROUND_Google":
            path = folder / "caltech101" / "images" / row["file_name"]
            yield Photograph("caltech101", path, name=_CALTECH.get(name, name.replace("_", " ").lower()))


def _grocery(folder: Path) -> Iterator[Photograph]:
    for row in _rows(folder / "grocery" / "labels.csv"):
        kind = row["path"].split("/")[1].replace("-", " ").lower()
        name = f"carton of {kind}" if row["group"] == "Packages" else kind
        yield Photograph("grocery", folder / "grocery" / "images" / row["file_name"], name=name)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _digest(folder: Path) -> str:
    """SHA-256 over the labels and the names and sizes of the photographs."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.csv")):
        digest.update(path.read_bytes())
    for path in sorted((folder / "images").iterdir()):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()
