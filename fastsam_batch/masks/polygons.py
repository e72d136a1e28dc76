"""Masks as polygons: rings in image coordinates, simplified, holes and parts joined in, and filled back.

Two fillings matter. pycocotools' takes continuous coordinates, in which the pixel in column c covers [c, c + 1]:
a ring along pixel edges fills back to exactly its pixels. OpenCV's, which Ultralytics trains on, takes whole
pixels and fills the ring's own pixels too: there a ring runs through the mask's outermost pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.masks.outline import Part, through_pixels
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


def pixel_rings(part: Part, tolerance: float = 0.0) -> tuple[Ring, list[Ring]]:
    """As `edge_rings`, through the centres of the part's outermost pixels, which are at c + 0.5.

    The outer ring of a part one pixel wide has no area and may have fewer than three vertices.
    """
    outer, *holes = [
        simplify(through_pixels(loop).astype(np.float64) + 0.5, tolerance) for loop in (part.outer, *part.holes)
    ]
    return outer, [hole for hole in holes if len(hole) > 2]


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
    pair = [{"size": list(mask.size), "counts": mask.counts.encode()} for mask in (one, other)]
    return float(coco_mask.iou(pair[:1], pair[1:], [False])[0, 0])
