"""Prompt-guided selection on stored masks: points, boxes, and masks that were chosen otherwise.

Method: FastSAM's second stage (official repository, `fastsam/prompt.py`), for every kind of prompt at once.
One pass over the masks by area, from the largest: a mask with a background point inside is cleared from the
union, another one that a foreground point, a box or a text selects is added to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.errors import InputError
from fastsam_batch.masks.runs import EMPTY, Runs, all_runs, area_in_box, difference, union

Point = tuple[float, float]
Box = tuple[float, float, float, float]

# Strings read together: their characters stay in a core's cache.
_PARSED_AT_ONCE = 8


class ImageMasks:
    """One image's masks as they are stored. A mask's RLE is parsed when it is first needed, and once.

    `size_hw` (height, width) in pixels, `counts` n COCO strings, `areas` int [n] in pixels, `boxes_xywh`
    float [n, 4], tight, in pixels of the image. A mask is named by its place, from 0.
    """

    def __init__(
        self,
        size_hw: tuple[int, int],
        counts: Sequence[str],
        areas: NDArray[np.integer],
        boxes_xywh: NDArray[np.floating],
    ) -> None:
        self.size_hw = size_hw
        self.areas = np.asarray(areas, np.int64).reshape(len(counts))
        boxes = np.asarray(boxes_xywh, np.float64).reshape(len(counts), 4)
        self.boxes_xyxy = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, :2] + boxes[:, 2:])], axis=1)
        self._counts = counts
        self._runs: dict[int, Runs] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def runs(self, mask: int) -> Runs:
        """A mask's runs. Raises ValueError for a broken RLE."""
        self._parse([mask])
        return self._runs[mask]

    def _parse(self, masks: Sequence[int]) -> None:
        """Have the runs of these masks, together: a pass over many strings costs little more than one over one."""
        new = [mask for mask in masks if mask not in self._runs]
        for start in range(0, len(new), _PARSED_AT_ONCE):
            part = new[start : start + _PARSED_AT_ONCE]
            parsed = all_runs([self._counts[mask] for mask in part], self.size_hw)
            self._runs.update(zip(part, parsed, strict=True))

    def at(self, point: Point) -> list[int]:
        """The masks that contain a point's pixel, by area from the largest. Raises InputError outside the image."""
        position, near = self._near(point)
        self._parse(near)
        return [mask for mask in near if self.runs(mask).contains(position)]

    def smallest_at(self, point: Point) -> list[int]:
        """The last of `at`, if any, without parsing the masks before it."""
        position, near = self._near(point)
        return next(([mask] for mask in reversed(near) if self.runs(mask).contains(position)), [])

    def _near(self, point: Point) -> tuple[int, list[int]]:
        """A point's position, and the masks whose boxes hold it, by area from the largest."""
        x, y = _pixel(point, self.size_hw)
        left, top, right, bottom = self.boxes_xyxy.T
        near = np.flatnonzero((left <= x) & (x < right) & (top <= y) & (y < bottom))
        return x * self.size_hw[0] + y, self.by_area(near.tolist())

    def by_area(self, masks: Iterable[int]) -> list[int]:
        """Masks from the largest; of equal ones the first stored first."""
        return sorted(masks, key=lambda mask: (-self.areas[mask], mask))


@dataclass(frozen=True)
class BoxMatch:
    """The answer to a box: the mask with the highest IoU, None where no mask has a pixel in the box."""

    box: Box
    mask: int | None
    iou: float


@dataclass(frozen=True)
class Selection:
    """What prompts select: the masks that were added (ascending), what is left of their union, and the
    answers to the boxes in the order of the boxes.
    """

    masks: list[int]
    union: Runs
    boxes: list[BoxMatch]


def select(
    masks: ImageMasks,
    *,
    foreground: Sequence[Point] = (),
    background: Sequence[Point] = (),
    boxes: Sequence[Box] = (),
    chosen: Iterable[int] = (),
    smallest: bool = False,
) -> Selection:
    """Select masks by points (x, y), boxes (x1, y1, x2, y2), both in pixels, and by name (`chosen`).

    By area from the largest, a mask is added to the union where a foreground point lies inside it, where it
    answers a box, or where it is chosen; it is cleared from the union where a background point lies inside,
    which wins. With `smallest` a foreground point selects the smallest mask around it only.
    Raises InputError for a point outside the image, or a box that covers no pixel of it; ValueError for a
    broken RLE.
    """
    matches = [match_box(masks, box) for box in boxes]
    wanted = set(chosen) | {match.mask for match in matches if match.mask is not None}
    for point in foreground:
        wanted.update(masks.smallest_at(point) if smallest else masks.at(point))
    cleared = {mask for point in background for mask in masks.at(point)}

    pixels = masks.size_hw[0] * masks.size_hw[1]
    selected = EMPTY
    for clear, group in groupby(masks.by_area(wanted | cleared), key=cleared.__contains__):
        runs = [masks.runs(mask) for mask in group]
        if not clear:
            selected = union([selected, *runs])
        elif len(selected):
            selected = difference(selected, union(runs), pixels)
    return Selection(sorted(wanted - cleared), selected, matches)


def match_box(masks: ImageMasks, box: Box) -> BoxMatch:
    """The mask M with the highest |M∩B| / (|B| + |M| - |M∩B|); of equal ones the first stored.

    B is the box (x1, y1, x2, y2) rounded to whole pixels and cut to the image. Raises InputError where that
    is empty, ValueError for a broken RLE.
    """
    whole = _whole_box(box, masks.size_hw)
    left, top, right, bottom = whole
    box_area = (right - left) * (bottom - top)
    # What a mask's own box allows at most: masks are opened from the most promising on, few of them.
    corners = masks.boxes_xyxy
    wide = np.clip(np.minimum(corners[:, 2], right) - np.maximum(corners[:, 0], left), 0, None)
    high = np.clip(np.minimum(corners[:, 3], bottom) - np.maximum(corners[:, 1], top), 0, None)
    shared = np.minimum(wide * high, masks.areas)
    limits = shared / (box_area + masks.areas - shared)
    best, best_iou = None, 0.0
    for mask in np.argsort(-limits, kind="stable").tolist():
        if limits[mask] == 0 or limits[mask] < best_iou:
            break
        inside = area_in_box(masks.runs(mask), whole, masks.size_hw[0])
        iou = inside / (box_area + int(masks.areas[mask]) - inside)
        if iou > best_iou or (best is not None and iou == best_iou and mask < best):
            best, best_iou = mask, iou
    return BoxMatch(box, best, best_iou)


def _pixel(point: Point, size_hw: tuple[int, int]) -> tuple[int, int]:
    (x, y), (height, width) = point, size_hw
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"the point {x:g},{y:g} lies outside the image of {width} x {height} pixels; "
            f"x goes from 0 to {width - 1} and y from 0 to {height - 1}"
        )
    return math.floor(x), math.floor(y)


def _whole_box(box: Box, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    (x1, y1, x2, y2), (height, width) = box, size_hw
    name = ",".join(f"{value:g}" for value in box)
    if not all(map(math.isfinite, box)) or x1 >= x2 or y1 >= y2:
        raise InputError(f"the box {name} is empty; write x1,y1,x2,y2 with x1 below x2 and y1 below y2")
    left, top, right, bottom = max(round(x1), 0), max(round(y1), 0), min(round(x2), width), min(round(y2), height)
    if left >= right or top >= bottom:
        raise InputError(f"the box {name} covers no pixel of the image of {width} x {height} pixels")
    return left, top, right, bottom
