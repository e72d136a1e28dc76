"""Masks of overlapping tiles put together in their image: what borders cut is joined or left out, then NMS.

A tile's border cuts what goes on beyond it. Three rules, on runs, without a pixel being made:

1. A mask that comes within `margin` of a border which lies inside the image is cut there.
2. Cut masks of two tiles side by side are parts of one thing where both are cut by the other's tile and, where the
   two tiles overlap, agree by an IoU of at least JOIN_IOU; the best pairs first, a mask with one partner a
   border. Parts are joined, over as many tiles as the thing crosses; a joined mask has the lowest score and
   stability of its parts. A mask with a cut that no partner mends is left out: a tile beside has the whole of it, or
   the image as a whole does.
3. Of what remains, and of the masks of the image as a whole, those are left out whose IoU with one of a higher
   score is above NMS_IOU.

Compare segment-anything `automatic_mask_generator.py`, which segments crops, leaves out masks near their borders and
suppresses by boxes; it joins nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.overlap import best_apart, intersection
from fastsam_batch.masks.rle import tight_box
from fastsam_batch.masks.runs import Runs, area_in_box, by_column, union

JOIN_IOU = 0.6
NMS_IOU = 0.7  # as segment-anything's crop_nms_thresh
Box = tuple[int, int, int, int]
_LEFT, _TOP, _RIGHT, _BOTTOM = range(4)


@dataclass(frozen=True)
class Found:
    """Masks of one image or tile: n non-empty `runs` in its frame, `scores` and `stability` float32 [n]."""

    runs: list[Runs]
    scores: NDArray[np.float32]
    stability: NDArray[np.float32]


@dataclass(frozen=True)
class Together:
    """Masks of an image by descending score, with `areas` int64 [n] and tight `bboxes_xywh` float32 [n, 4]."""

    runs: list[Runs]
    scores: NDArray[np.float32]
    stability: NDArray[np.float32]
    areas: NDArray[np.int64]
    bboxes_xywh: NDArray[np.float32]


def tile_boxes(image_hw: tuple[int, int], tile: int, overlap: int) -> list[Box]:
    """Overlapping tiles (x1, y1, x2, y2) that cover an image, row by row; none where it fits into one.

    All have one size, `tile` pixels or the image's side where that is shorter. They are evenly spaced, neighbours
    sharing at least `overlap` pixels.
    """
    height, width = image_hw
    if max(height, width) <= tile:
        return []
    tile_h, tile_w = min(tile, height), min(tile, width)
    return [
        (x, y, x + tile_w, y + tile_h)
        for y in _starts(height, tile_h, overlap)
        for x in _starts(width, tile_w, overlap)
    ]


def merge_tiles(
    whole: Found, tiles: Sequence[tuple[Box, Found]], image_hw: tuple[int, int], margin: int, most: int
) -> Together:
    """The masks of an image and of its tiles as one set, at most `most`, by the rules above.

    `tiles` are boxes of the image with the masks found there, in the tile's frame. Equal scores keep the order
    given: the whole image's first.
    """
    height, _ = image_hw
    placed = [
        _Part(number, box, moved(runs, box, height), float(score), float(stability), _cuts(runs, box, image_hw, margin))
        for number, (box, found) in enumerate(tiles)
        for runs, score, stability in zip(found.runs, found.scores, found.stability, strict=True)
    ]
    joined = _joined(placed, height)
    runs = [*whole.runs, *(runs for runs, _, _ in joined)]
    scores = np.concatenate([whole.scores, np.array([score for _, score, _ in joined], np.float32)])
    stability = np.concatenate([whole.stability, np.array([value for _, _, value in joined], np.float32)])
    areas = np.array([mask.area for mask in runs], np.int64)
    boxes = np.array([tight_box(mask.starts, mask.ends, height) for mask in runs], np.float64).reshape(-1, 4)
    order = np.argsort(-scores, kind="stable")
    kept = order[best_apart([runs[place] for place in order], areas[order], boxes[order], NMS_IOU, most)]
    return Together(
        [runs[place] for place in kept], scores[kept], stability[kept], areas[kept], boxes[kept].astype(np.float32)
    )


def moved(runs: Runs, box: Box, height: int) -> Runs:
    """A mask of a tile as runs in its image, which is `height` pixels high."""
    left, top, _, bottom = box
    tile_h = bottom - top
    if tile_h == height:
        return Runs(runs.starts + left * height, runs.ends + left * height)
    # The image is higher than the tile, so that runs end with their columns.
    column, first, end = by_column(runs, tile_h)
    shift = (left + column) * height + top
    return Runs(first + shift, end + shift)


@dataclass(frozen=True)
class _Part:
    """A tile's mask in the image. `cuts` bool [4]: whether the tile's left, top, right, bottom border cuts it."""

    tile: int
    box: Box
    runs: Runs
    score: float
    stability: float
    cuts: tuple[bool, bool, bool, bool]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    steps = math.ceil((length - tile) / (tile - overlap)) if length > tile else 0
    return [round(step * (length - tile) / max(steps, 1)) for step in range(steps + 1)]


def _cuts(runs: Runs, box: Box, image_hw: tuple[int, int], margin: int) -> tuple[bool, bool, bool, bool]:
    left, top, right, bottom = box
    x, y, width, height = tight_box(runs.starts, runs.ends, bottom - top)
    return (
        left > 0 and x < margin,
        top > 0 and y < margin,
        right < image_hw[1] and x + width > right - left - margin,
        bottom < image_hw[0] and y + height > bottom - top - margin,
    )


def _joined(parts: Sequence[_Part], height: int) -> list[tuple[Runs, float, float]]:
    """Masks with score and stability: parts that are whole, and those that others complete, in their order."""
    group = list(range(len(parts)))
    mended = [list(part.cuts) for part in parts]

    def first(place: int) -> int:
        while group[place] != place:
            place = group[place]
        return place

    for one, other, side, opposite in _pairs(parts, height):
        mended[one][side] = mended[other][opposite] = False
        low, high = sorted((first(one), first(other)))
        group[high] = low
    members: dict[int, list[int]] = {}
    for place in range(len(parts)):
        members.setdefault(first(place), []).append(place)
    return [
        (
            union([parts[place].runs for place in places]) if len(places) > 1 else parts[places[0]].runs,
            min(parts[place].score for place in places),
            min(parts[place].stability for place in places),
        )
        for places in members.values()
        if not any(any(mended[place]) for place in places)
    ]


def _pairs(parts: Sequence[_Part], height: int) -> Iterator[tuple[int, int, int, int]]:
    """Partners: two parts, the side of the first that cuts it, and the opposite side, which cuts the second."""
    of_tile: dict[int, list[int]] = {}
    for place, part in enumerate(parts):
        of_tile.setdefault(part.tile, []).append(place)
    boxes = {tile: parts[places[0]].box for tile, places in of_tile.items()}
    for tile, box in boxes.items():
        for other, beside in boxes.items():
            for side, opposite in ((_RIGHT, _LEFT), (_BOTTOM, _TOP)):
                across = 1 - side % 2  # the axis along the border
                aligned = box[across] == beside[across]
                if not aligned or not box[opposite] < beside[opposite] < box[side] < beside[side]:
                    continue
                ones = [place for place in of_tile[tile] if parts[place].cuts[side]]
                others = [place for place in of_tile[other] if parts[place].cuts[opposite]]
                for one, partner in _matched(parts, ones, others, height):
                    yield one, partner, side, opposite


def _matched(
    parts: Sequence[_Part], ones: Sequence[int], others: Sequence[int], height: int
) -> Iterator[tuple[int, int]]:
    """Greedy one-to-one pairs by the IoU of two tiles' parts where the tiles overlap."""
    if not ones or not others:
        return
    here, there = parts[ones[0]].box, parts[others[0]].box
    shared = max(here[0], there[0]), max(here[1], there[1]), min(here[2], there[2]), min(here[3], there[3])
    inside = {place: area_in_box(parts[place].runs, shared, height) for place in (*ones, *others)}
    agreements = []
    for one in ones:
        for other in others:
            least, most = sorted((inside[one], inside[other]))
            if least == 0 or least < JOIN_IOU * most:
                continue
            both = intersection(parts[one].runs, parts[other].runs)  # in both tiles, so all of it where they overlap
            agreement = both / (least + most - both)
            if agreement >= JOIN_IOU:
                agreements.append((-agreement, one, other))
    taken: set[int] = set()
    for _, one, other in sorted(agreements):
        if one not in taken and other not in taken:
            taken |= {one, other}
            yield one, other
