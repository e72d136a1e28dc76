"""A training scene: pixels and the instances in them, each a mask in its own window."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
MIN_AREA = 20  # pixels of the scene below which an instance is no label
MIN_VISIBLE = 0.2  # of an instance's area in the frame, else what covers it has hidden it


@dataclass
class Instance:
    """A mask uint8 (0 or 255) [h, w] whose window begins at (x, y); `whole` is its area before anything covered it."""

    x: int
    y: int
    mask: Pixels
    whole: int

    @property
    def area(self) -> int:
        return int(cv2.countNonZero(self.mask)) if self.mask.size else 0


@dataclass
class Scene:
    """`image` uint8 RGB [side, side, 3]; `negatives` how far what has no label counts as nothing, 0 to 1."""

    image: Pixels
    instances: list[Instance] = field(default_factory=list)
    negatives: float = 1.0

    def labels(self) -> list[Instance]:
        """The instances that are still to be seen."""
        return [one for one in self.instances if (area := one.area) >= MIN_AREA and area >= MIN_VISIBLE * one.whole]

    def cover(self, x: int, y: int, mask: Pixels) -> None:
        """Take the pixels of `mask`, at (x, y), from every instance."""
        for one in self.instances:
            left, top = max(x, one.x), max(y, one.y)
            right = min(x + mask.shape[1], one.x + one.mask.shape[1])
            bottom = min(y + mask.shape[0], one.y + one.mask.shape[0])
            if left < right and top < bottom:
                theirs = one.mask[top - one.y : bottom - one.y, left - one.x : right - one.x]
                theirs[mask[top - y : bottom - y, left - x : right - x] > 0] = 0


def moved(mask: Pixels, x: int, y: int, matrix: NDArray[np.float64], side: int) -> Instance | None:
    """A mask at (x, y) of its picture under an affine [2, 3] map into a square frame; None where it falls outside."""
    height, width = mask.shape
    corners = np.array([[x, y, 1], [x + width, y, 1], [x, y + height, 1], [x + width, y + height, 1]]) @ matrix.T
    left, top = np.clip(np.floor(corners.min(0)), 0, side).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)), 0, side).astype(int)
    if right <= left or bottom <= top:
        return None
    inner = matrix.copy()
    inner[:, 2] += matrix[:, :2] @ np.array([x, y]) - np.array([left, top])
    warped = cv2.warpAffine(mask, inner, (int(right - left), int(bottom - top)), flags=cv2.INTER_LINEAR)
    found = cv2.threshold(warped, 127, 255, cv2.THRESH_BINARY)[1]
    area = cv2.countNonZero(found)
    return Instance(int(left), int(top), np.asarray(found, np.uint8), area) if area >= MIN_AREA else None


def targets(instances: list[Instance], side: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Tight boxes float32 [n, 4] (xyxy, scene pixels) and covered shares uint8 [n, side / 4, side / 4] (255 is all)."""
    boxes = np.zeros((len(instances), 4), np.float32)
    shares = np.zeros((len(instances), side // 4, side // 4), np.uint8)
    for index, one in enumerate(instances):
        x, y, width, height = cv2.boundingRect(one.mask)
        boxes[index] = (one.x + x, one.y + y, one.x + x + width, one.y + y + height)
        frame = np.zeros((side, side), np.uint8)
        frame[one.y : one.y + one.mask.shape[0], one.x : one.x + one.mask.shape[1]] = one.mask
        shares[index] = cv2.resize(frame, (side // 4, side // 4), interpolation=cv2.INTER_AREA)
    return boxes, shares
