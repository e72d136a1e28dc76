"""Morphology on a mask: specks and spikes off, cracks and holes closed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.rle import decode_in_box, tight_box
from fastsam_batch.masks.runs import Runs, rle_of, runs_of_pixels


def smooth(mask: Runs, size_hw: tuple[int, int], radius: int) -> Runs:
    """The mask opened, then closed by a disc: the pixels at most `radius` from its centre.

    Pixels are decoded around the mask only. What lies beyond the image's border counts neither as mask nor as
    background. The time does not depend on the radius.
    """
    if radius <= 0 or not len(mask):
        return mask
    height, width = size_hw
    x, y, box_width, box_height = tight_box(mask.starts, mask.ends, height)
    # Closing reaches a radius beyond the mask and looks a radius further.
    left, top = max(x - 2 * radius, 0), max(y - 2 * radius, 0)
    right, bottom = min(x + box_width + 2 * radius, width), min(y + box_height + 2 * radius, height)
    pixels = decode_in_box(rle_of(mask, size_hw), (left, top, right - left, bottom - top))
    opened = _dilate(~_dilate(~pixels, radius), radius)
    closed = ~_dilate(~_dilate(opened, radius), radius)
    return runs_of_pixels(closed, left, top, height)


def _dilate(pixels: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Every pixel within `radius` of one that is set: by exact distances, which cost the same for any radius."""
    if not pixels.any():
        return pixels
    away = cv2.distanceTransform((~pixels).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(away <= radius)
