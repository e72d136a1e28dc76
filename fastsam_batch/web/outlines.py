"""Masks as SVG paths, so that the page can light, hover and draw them at any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.draw import BoxedMask
from fastsam_batch.masks.rle import decode_in_box

# Samples along the long side of a mask's box: finer than a screen shows.
_SAMPLES = 1024
# How far, in samples, an outline may leave the staircase of pixels; it is what makes slanted edges straight.
_TOLERANCE = 0.7
_SPECK = 6  # samples


def outline(mask: BoxedMask) -> str:
    """The outlines of a mask and of its holes as an SVG path in pixels of its image, for fill-rule `evenodd`.

    A mask without pixels has the empty path. Raises ValueError for a broken RLE.
    Method: border following (Suzuki and Abe, 1985), then Douglas-Peucker.
    """
    x, y, width, height = _whole_box(mask.bbox_xywh, mask.rle.size)
    if not width or not height:
        return ""
    step = max(math.ceil(max(width, height) / _SAMPLES), 1)
    inside = decode_in_box(mask.rle, (x, y, width, height), step)
    # Border following walks through the middle of pixels: at twice the size that is a quarter pixel inside.
    twice = np.kron(inside, np.ones((2, 2), np.uint8)).astype(np.uint8)
    contours, _ = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # Specks of a pixel or two would only be noise on the page; a mask of nothing else keeps them.
    clear = [contour for contour in contours if cv2.contourArea(contour) > 4 * _SPECK] or contours
    return "".join(_part(cv2.approxPolyDP(contour, 2 * _TOLERANCE, True), (x, y), step / 2) for contour in clear)


def _part(contour: NDArray[np.integer], corner: tuple[int, int], scale: float) -> str:
    points = (contour.reshape(-1, 2) + 0.5) * scale + np.asarray(corner)
    if len(points) < 3:  # a pixel or a line of pixels: as wide as it is
        (left, top), (right, bottom) = points.min(0) - scale / 2, points.max(0) + scale / 2
        points = np.asarray([(left, top), (right, top), (right, bottom), (left, bottom)])
    return f"M{'L'.join(f'{px:.1f},{py:.1f}' for px, py in points)}Z"


def _whole_box(bbox_xywh: Sequence[float], image_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    x, y, width, height = bbox_xywh
    left, top = max(math.floor(x), 0), max(math.floor(y), 0)
    right, bottom = min(math.ceil(x + width), image_hw[1]), min(math.ceil(y + height), image_hw[0])
    return left, top, max(right - left, 0), max(bottom - top, 0)
