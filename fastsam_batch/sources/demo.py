"""The demo corpus: colour photographs that ship inside the wheels of other packages."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fastsam_batch.errors import InputError
from fastsam_batch.sources.base import EncodedImage, ImageRef, Planned, PlanRow
from fastsam_batch.sources.fetch import fetch_images
from fastsam_batch.sources.members import MembersSource, plan_members

SCHEME = "demo:"


class Photograph(NamedTuple):
    """One photograph: its file, who took it, and its licence as the package that ships it states it."""

    name: str
    module: str
    distribution: str
    path: str
    credit: str
    licence: str


_PUBLIC = "no known copyright restrictions, released into the public domain"
_CC0 = "CC0 by the photographer"

PHOTOGRAPHS = (
    Photograph("astronaut.png", "skimage", "scikit-image", "data/astronaut.png", "NASA: Eileen Collins", _PUBLIC),
    Photograph(
        "bus.jpg",
        "ultralytics",
        "ultralytics",
        "assets/bus.jpg",
        "not stated",
        "not stated; shipped in ultralytics (AGPL-3.0)",
    ),
    Photograph("chelsea.png", "skimage", "scikit-image", "data/chelsea.png", "Stefan van der Walt", _CC0),
    Photograph(
        "china.jpg",
        "sklearn",
        "scikit-learn",
        "datasets/images/china.jpg",
        "danielbuechele on Flickr",
        "CC BY 2.0",
    ),
    Photograph(
        "coffee.png",
        "skimage",
        "scikit-image",
        "data/coffee.png",
        "Rachel Michetti, courtesy of Pikolo Espresso Bar",
        _CC0,
    ),
    Photograph(
        "flower.jpg",
        "sklearn",
        "scikit-learn",
        "datasets/images/flower.jpg",
        "vultilion on Flickr, by the link in the package's README",
        "CC BY 2.0",
    ),
    Photograph(
        "grace_hopper.jpg",
        "matplotlib",
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        "not stated",
        "not stated; shipped in matplotlib (PSF-based licence)",
    ),
    Photograph(
        "motorcycle_left.png",
        "skimage",
        "scikit-image",
        "data/motorcycle_left.png",
        "Middlebury 2014 stereo benchmark: Nesic, Westling, Wang, Kitajima, Krathwohl, Scharstein",
        "not stated; shipped in scikit-image (BSD-3-Clause)",
    ),
    Photograph(
        "rocket.jpg",
        "skimage",
        "scikit-image",
        "data/rocket.jpg",
        "SpaceX",
        "released into the public domain",
    ),
    Photograph(
        "zidane.jpg",
        "ultralytics",
        "ultralytics",
        "assets/zidane.jpg",
        "not stated",
        "not stated; shipped in ultralytics (AGPL-3.0)",
    ),
)


class DemoSource(MembersSource):
    """The photographs of PHOTOGRAPHS. `image_id` is the name, `uri` is `demo:<name>`."""

    def plan(self, planned: Planned, unit_size: int, limit: int | None) -> Iterator[PlanRow]:
        """Raises InputError where a package that ships one is not installed."""
        for photograph in PHOTOGRAPHS:
            find(photograph)
        new = (
            (ImageRef(photograph.name, SCHEME + photograph.name), None)
            for photograph in PHOTOGRAPHS
            if photograph.name not in planned.members
        )
        yield from plan_members(
            islice(new, limit), prefix="demo", shard="", first=len(planned.members), unit_size=unit_size
        )

    def _fetch(self, members: tuple[ImageRef, ...]) -> tuple[EncodedImage, ...]:
        return fetch_images(members, read_demo)


def find(photograph: Photograph) -> Path:
    """The photograph's file, its package found but not imported. Raises InputError where it is missing."""
    spec = find_spec(photograph.module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder, photograph.path)).is_file():
            return path
    raise InputError(
        f"the demo photograph {photograph.name} ships in {photograph.distribution}, which is not installed "
        f"or lacks it: pip install {photograph.distribution}"
    )


def read_demo(uri: str) -> bytes:
    """Bytes of `demo:<name>`. Raises FileNotFoundError for an unknown name or a missing package."""
    for photograph in PHOTOGRAPHS:
        if SCHEME + photograph.name == uri:
            try:
                return find(photograph).read_bytes()
            except InputError as error:
                raise FileNotFoundError(str(error)) from error
    raise FileNotFoundError(f"there is no demo photograph {uri}")
