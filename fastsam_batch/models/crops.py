"""Crops of masks, as an embedder sees them: square, padded, with or without what lies around the mask.

Method: FastSAM (Zhao et al. 2023), text prompt, crops each mask by its box with the background removed;
context crops keep the background and a margin. A square around the box keeps the aspect ratio, which
CLIP's own resize-and-centre-crop of an oblong box would cut.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.rle import Rle, decode_in_box

CONTEXT_MARGIN = 0.1  # of the box's long side, on each side


def mask_crop(
    image: NDArray[np.uint8],
    rle: Rle,
    bbox_xywh: NDArray[np.float32],
    size: int,
    fill_rgb: NDArray[np.uint8],
    kind: str,
) -> NDArray[np.uint8]:
    """One mask's crop, uint8 RGB [size, size, 3].

    `image` uint8 RGB [height, width, 3]; `bbox_xywh` the mask's tight box in whole pixels. `kind` is
    `masked` (pixels outside the mask become `fill_rgb`) or `context` (a margin, background kept). What
    lies outside the image or the square's short side is `fill_rgb`.
    """
    x, y, width, height = (int(value) for value in bbox_xywh)
    margin = round(CONTEXT_MARGIN * max(width, height)) if kind == "context" else 0
    left, top = max(x - margin, 0), max(y - margin, 0)
    right = min(x + width + margin, image.shape[1])
    bottom = min(y + height + margin, image.shape[0])
    side = max(width, height) + 2 * margin
    scale = size / side
    crop = _resize(image[top:bottom, left:right], scale)
    if kind == "masked":
        inside = _resize(decode_in_box(rle, (x, y, width, height)).view(np.uint8) * np.uint8(255), scale)
        share = inside[..., None].astype(np.uint16)
        mixed = crop * share + fill_rgb * (255 - share)
        crop = ((mixed.astype(np.uint32) + 127) // 255).astype(np.uint8)
    out = np.empty((size, size, 3), np.uint8)
    out[:] = fill_rgb
    # Where the region lies in the square, whose centre is the box's.
    place_x = round((left - (x + width / 2 - side / 2)) * scale)
    place_y = round((top - (y + height / 2 - side / 2)) * scale)
    place_x = min(max(place_x, 0), size - crop.shape[1])
    place_y = min(max(place_y, 0), size - crop.shape[0])
    out[place_y : place_y + crop.shape[0], place_x : place_x + crop.shape[1]] = crop
    return out


def _resize(pixels: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    height, width = (max(round(side * scale), 1) for side in pixels.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC  # antialiased when shrinking
    return cv2.resize(pixels, (width, height), interpolation=method)  # type: ignore[return-value]
