"""Numbers of masks on a picture of all of them: each where its own mask is seen, none where it does not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fastsam_batch.masks.draw import RGB, BoxedMask, View, draw_mask

# Shown pixels a cell of the grid on which places are looked for.
_CELL = 3
# Heights of the letters as shares of the picture's long side: the first that fits, and never below _LEAST pixels.
_SIZES = (0.026, 0.017)
_LEAST = 11
_INK: RGB = (255, 255, 255)
_CASING: RGB = (16, 18, 24)


def write_numbers(
    painted: NDArray[np.uint8], masks: Sequence[BoxedMask], numbers: Sequence[int], view: View
) -> NDArray[np.uint8]:
    """A copy of `draw.paint_all`'s picture of these masks, uint8 RGB [h, w, 3], with a number on each of them.

    A number lies where its mask is not covered by later ones, so that no two overlap and none is taken for
    another's; a mask that shows too little for it has none. Raises ValueError for a broken RLE.
    """
    picture = Image.fromarray(painted)
    draw = ImageDraw.Draw(picture)
    sizes = [max(round(share * max(view.size_wh)), _LEAST) for share in _SIZES]
    seen = _seen(masks, view)
    per_cell = np.divide(view.size_wh, seen.shape[::-1])
    for place, number in enumerate(numbers):
        for size in sizes:
            font, casing = ImageFont.load_default(size), max(round(size / 8), 2)
            left, top, right, bottom = draw.textbbox((0, 0), str(number), font, anchor="mm", stroke_width=casing)
            spot = _spot(seen == place, (right - left) / per_cell[0], (bottom - top) / per_cell[1])
            if spot is not None:
                x, y = np.multiply(spot, per_cell).tolist()
                draw.text((x, y), str(number), _INK, font, anchor="mm", stroke_width=casing, stroke_fill=_CASING)
                break
    return np.array(picture)


def _seen(masks: Sequence[BoxedMask], view: View) -> NDArray[np.int32]:
    """The mask that is seen in each cell of a coarse grid over the view, by its place, int32 [h, w]; -1 for none."""
    coarse = view.in_cells(_CELL)
    seen = np.full(coarse.size_wh[::-1], -1, np.int32)
    for place, mask in enumerate(masks):
        layer = draw_mask(mask, coarse)
        if layer is not None:
            seen[layer.place][layer.fill >= 0.5] = place
    return seen


def _spot(cells: NDArray[np.bool_], width: float, height: float) -> tuple[float, float] | None:
    """Where (x, y, in cells) a rectangle fits into the cells bool [h, w], far from their edge; None for nowhere."""
    kernel = np.ones((math.ceil(height) | 1, math.ceil(width) | 1), np.uint8)
    inside = np.pad(cells, 1).view(np.uint8)  # the border of the picture is an edge too
    fits = cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    if not fits.any():
        return None
    away = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5) * fits
    best = np.argwhere(away > away.max() - 0.5)
    y, x = best[np.linalg.norm(best - best.mean(axis=0), axis=1).argmin()].tolist()  # the middle of a long shape
    return x - 0.5, y - 0.5
