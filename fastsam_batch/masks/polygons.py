"""Masks as polygons: rings in image coordinates, simplified, holes and parts joined in, and filled back.

Two fillings matter. pycocotools' takes continuous coordinates, in which the pixel in column c covers [c, c + 1]:
a ring along pixel edges fills back to exactly its pixels. OpenCV's, which Ultralytics trains on, takes whole
pixels and fills the ring's own pixels too: there a ring runs through the mask's outermost pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.masks.outline import Part
from fastsam_batch.masks.rle import Rle

Ring = NDArray[np.float64]

_TRIED = 32  # vertices of a ring that a bridge may start from


def edge_rings(part: Part, tolerance: float = 0.0) -> tuple[Ring, list[Ring]]:
    """The outer ring and the holes of a part along pixel edges, float64 [k, 2] as (x, y), pixel c at [c, c + 1].

    With a `tolerance` in pixels, vertices are left out while no point moves farther than that (Douglas-Peucker);
    a hole that this closes is left out.
    """
    outer = simplify(part.outer.astype(np.float64), tolerance)
    holes = [simplify(hole.astype(np.float64), tolerance) for hole in part.holes]
    return (
        outer if len(outer) > 2 else part.outer.astype(np.float64),
        [hole for hole in holes if len(hole) > 2],
    )


@dataclass(frozen=True)
class PixelPart:
    """A connected piece of a mask (8-neighbourhood) as rings through the centres of its outermost pixels.

    `outer` and `holes` float64 [k, 2] as (x, y), pixel c at c + 0.5, without vertices on straight lines; the outer
    ring of a part one pixel wide has no area and may have fewer than three. `pixels` inside the outer ring, those of
    holes too, and `hole_pixels` in each hole.
    """

    outer: Ring
    holes: tuple[Ring, ...]
    pixels: int
    hole_pixels: tuple[int, ...]


def pixel_parts(pixels: NDArray[np.bool_], corner_xy: tuple[int, int] = (0, 0)) -> list[PixelPart]:
    """The parts of a mask bool [h, w] whose first pixel lies at `corner_xy` of the image (OpenCV `findContours`)."""
    rings, tree = cv2.findContours(
        pixels.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(int(corner_xy[0]), int(corner_xy[1]))
    )
    holes: dict[int, list[int]] = {}
    for number, (*_, parent) in enumerate(tree[0].tolist() if rings else []):
        holes.setdefault(number if parent < 0 else parent, []).extend([] if parent < 0 else [number])
    return [
        PixelPart(
            _middles(rings[outer]),
            tuple(_middles(rings[hole]) for hole in inner),
            sum(_lattice(rings[outer])),
            tuple(_lattice(rings[hole])[0] for hole in inner),
        )
        for outer, inner in holes.items()
    ]


def pixel_rings(outer: Ring, holes: Sequence[Ring], tolerance: float = 0.0) -> tuple[Ring, list[Ring]]:
    """Rings of a PixelPart with fewer vertices, as `edge_rings`; a hole that this closes is left out."""
    if tolerance <= 0:
        return outer, list(holes)
    return simplify(outer, tolerance), [ring for hole in holes if len(ring := simplify(hole, tolerance)) > 2]


def _middles(ring: NDArray[np.int32]) -> Ring:
    return np.asarray(ring.reshape(-1, 2) + 0.5, np.float64)


def _lattice(ring: NDArray[np.int32]) -> tuple[int, int]:
    """Pixels inside a ring through pixels, and on it, those that it passes twice counted so (Pick's theorem)."""
    points = ring.reshape(-1, 2)
    steps = int(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())
    inside = round(abs(cv2.contourArea(ring)) - steps / 2 + 1)
    return inside, steps


def simplify(ring: Ring, tolerance: float) -> Ring:
    """The ring without vertices that lie on its edges or within `tolerance` pixels of the edges that are left."""
    if len(ring) < 4:
        return ring
    if tolerance > 0:
        kept = cv2.approxPolyDP(ring.astype(np.float32).reshape(-1, 1, 2), tolerance, closed=True)
        return np.asarray(kept.reshape(-1, 2), np.float64)
    before, behind = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    straight = (before[:, 0] * behind[:, 1] == before[:, 1] * behind[:, 0]) & ((before * behind).sum(axis=1) > 0)
    return np.asarray(ring[~straight], np.float64)


def joined(ring: Ring, others: Sequence[Ring]) -> Ring:
    """One ring through all: each of the others is entered and left along the same line, a bridge of no width.

    Filled by the even-odd or the non-zero rule, holes that run the other way round stay holes.
    """
    # From the left, so that a bridge between two holes does not have to cross a third.
    for other in sorted(others, key=lambda other: float(other[:, 0].min())):
        tried = np.linspace(0, len(other) - 1, min(len(other), _TRIED)).astype(np.int64)
        apart = ring[:, None] - other[None, tried]
        here, there = divmod(int((apart * apart).sum(axis=2).argmin()), len(tried))
        there = int(tried[there])
        ring = np.concatenate([ring[: here + 1], other[there:], other[: there + 1], ring[here:]])
    return ring


def fill_edges(rings: Sequence[Ring], size_hw: tuple[int, int]) -> Rle:
    """What pycocotools makes of polygons in an image of `size_hw`: the union of the rings, each by even-odd."""
    height, width = size_hw
    filled = coco_mask.merge(coco_mask.frPyObjects([ring.reshape(-1).tolist() for ring in rings], height, width))
    return Rle(size_hw, filled["counts"].decode("ascii"))


def fill_pixels(ring: Ring, box_xywh: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """What Ultralytics makes of a ring (`data/utils.py` polygon2mask), in a box of whole pixels: bool [h, w]."""
    x, y, width, height = box_xywh
    filled = np.zeros((height, width), np.uint8)
    cv2.fillPoly(filled, [ring.astype(np.int32) - np.array([x, y], np.int32)], 1)
    return filled.view(np.bool_)


def iou_of(one: Rle, other: Rle) -> float:
    """Intersection over union of two masks of one size."""
    return float(coco_mask.iou([one.to_coco()], [other.to_coco()], [False])[0, 0])
