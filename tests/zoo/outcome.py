"""What a case of the zoo may end as."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from zoo.encode import GREY, PHOTO, WIDTH, levels


class Whole(NamedTuple):
    """An image: it is segmented. Upright pixels differ from `pixels` by at most `mean` of 255 on average."""

    pixels: NDArray[np.uint8] = PHOTO
    mean: float = 0.0


class Failed(NamedTuple):
    """A row that says why there is no image: `kind` is its error_kind."""

    kind: str


class Refused(NamedTuple):
    """The whole input is refused before any work, by one sentence that matches `message`."""

    message: str


class Left(NamedTuple):
    """Not taken for an image: no row."""


class Case(NamedTuple):
    """One animal: its file, and what becomes of it; of a shard or a manifest, of each of its images by id."""

    name: str
    data: bytes
    outcome: Any


def flat(width: int, height: int) -> Whole:
    """An image of another size, all red."""
    return Whole(np.full((height, width, 3), (255, 0, 0), np.uint8), 3)


EXACT, NEAR, ROUGH = Whole(), Whole(mean=8), Whole(mean=25)
IN_GREY = Whole(np.repeat(GREY[..., None], 3, 2), 5)
ON_WHITE = Whole(np.where(np.arange(WIDTH)[:, None] < WIDTH // 2, PHOTO, 255).astype(np.uint8), 5)
GREY_ON_WHITE = Whole(np.where(np.arange(WIDTH)[:, None] < WIDTH // 2, GREY[..., None], 255).repeat(3, 2), 5)
DITHERED = Whole(np.repeat(GREY[..., None], 3, 2), 110)
EMPTY, NO_IMAGE, CUT, DAMAGED = Failed("empty"), Failed("not_an_image"), Failed("truncated"), Failed("corrupt")
UNREAD, BOMB, MISSING, BROKEN = Failed("unsupported"), Failed("too_large"), Failed("missing"), Failed("broken_shard")


def steps(depth: int) -> Whole:
    """The grey photograph in 2**depth levels."""
    return Whole(np.repeat((levels(depth) * (255 // (2**depth - 1))).astype(np.uint8), 3, 2), 1)
