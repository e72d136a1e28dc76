"""A corpus's masks of one image, ready for prompts."""

from __future__ import annotations

import numpy as np

from fastsam_batch.export.images import ExportImage
from fastsam_batch.masks.select import ImageMasks


def stored_masks(image: ExportImage) -> ImageMasks:
    """The masks as `masks.select` takes them, none parsed yet; a mask's place is that in `image.masks`."""
    return ImageMasks(
        (image.height, image.width),
        [mask.rle.counts for mask in image.masks],
        np.array([mask.area for mask in image.masks], np.int64),
        np.array([mask.bbox_xywh for mask in image.masks], np.float64),
    )
