"""Crops of masks on a device: all of an image at once, each pixel the mean of what it covers of the image.

The crops of `models/crops.py` without its pyramid: the sums of all pixels above and left of each, made once an image,
tell the mean of any rectangle by its corners (Crow, "Summed-area tables for texture mapping", SIGGRAPH 1984).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.crops import Place, place_of
from fastsam_batch.models.device_resampling import Axis, enlarged, within
from fastsam_batch.models.device_shares import mask_shares

_PIXELS_AT_ONCE = 64 * 224**2  # of crops, about 0.4 GB with what is computed for them


@dataclass(frozen=True)
class ImageSums:
    """An image on a device, uint8 [h, w, 3], and float64 [h + 1, w + 1, 3] of its sums."""

    pixels: torch.Tensor
    sums: torch.Tensor

    @staticmethod
    def of(image: NDArray[np.uint8], device: torch.device) -> ImageSums:
        """Of an image uint8 RGB [h, w, 3]."""
        pixels = torch.from_numpy(image).to(device)
        sums = torch.zeros((image.shape[0] + 1, image.shape[1] + 1, 3), dtype=torch.float64, device=device)
        planes = pixels.permute(2, 0, 1).contiguous().double()  # a scan is fast along the axis that lies in a row
        sums[1:, 1:] = planes.cumsum_(1).cumsum_(2).permute(1, 2, 0)
        return ImageSums(pixels, sums)


def mask_crops(
    image: ImageSums,
    rles: Sequence[Rle],
    bboxes_xywh: NDArray[np.float32],
    size: int,
    fill_rgb: NDArray[np.uint8],
    kinds: Sequence[str],
) -> torch.Tensor:
    """The crops of n masks of one image as `mask_crop` makes them, uint8 RGB [kinds, n, size, size, 3] on the device.

    They differ from those by little: these come from the image itself, those from a level of a pyramid.
    """
    if not rles:
        return image.pixels.new_empty((len(kinds), 0, size, size, 3))
    device = image.pixels.device
    height, width = image.pixels.shape[:2]
    places = [place_of(box, (height, width), size, kind) for kind in kinds for box in bboxes_xywh]
    shares = within(places, size, device).float()
    for number, kind in enumerate(kinds):
        if kind == "masked":
            first, end = number * len(rles), (number + 1) * len(rles)
            shares[first:end] = mask_shares(rles, places[first:end], size, device)
    fill = torch.from_numpy(fill_rgb).to(device).float()
    crops = image.pixels.new_empty((len(places), size, size, 3))
    for some in _alike(places, max(_PIXELS_AT_ONCE // size**2, 1)):
        chosen = [places[index] for index in some]
        if _shrinks(chosen[0]):
            shown = _shrunk(image.sums, chosen, size)
        else:
            shown = enlarged(image.pixels[None], 0, chosen, size)
        on_device = torch.from_numpy(some).to(device)
        share = shares[on_device][..., None]
        crops[on_device] = (shown * share + fill * (1 - share)).round_().to(torch.uint8)
    return crops.view(len(kinds), len(rles), size, size, 3)


def _alike(places: Sequence[Place], at_once: int) -> Iterator[NDArray[np.int64]]:
    """Indices of those that shrink, and then of those that are enlarged, at most so many at once."""
    shrinking = np.array([_shrinks(place) for place in places])
    for of_kind in (np.flatnonzero(shrinking), np.flatnonzero(~shrinking)):
        yield from (of_kind[first : first + at_once] for first in range(0, len(of_kind), at_once))


def _shrinks(place: Place) -> bool:
    left, top, right, bottom = place.region_xyxy
    return place.crop_hw[0] < bottom - top or place.crop_hw[1] < right - left


def _shrunk(sums: torch.Tensor, places: Sequence[Place], size: int) -> torch.Tensor:
    """Means of the image under each pixel of crops, float32 [n, size, size, 3]; 0 outside the regions."""
    count, width = len(places), sums.shape[1]
    table = sums.flatten(0, 1)
    edges = []
    for axis in (0, 1):
        first, length, cells, place = Axis.of(places, axis, sums.device).fields
        cell = torch.arange(size + 1, dtype=torch.float64, device=sums.device) - place
        at = first + cell.clamp(min=0).minimum(cells) * (length / cells)
        low = at.floor().clamp(max=sums.shape[axis] - 2)
        edges.append((at, low.long(), at - low))
    (y, row, down), (x, column, across) = edges
    corner = (row[:, :, None] * width + column[:, None]).flatten()

    def at_corners(offset: int) -> torch.Tensor:
        return table[corner + offset].view(count, size + 1, size + 1, 3)

    across, down = across[:, None, :, None], down[:, :, None, None]
    above = at_corners(0).lerp_(at_corners(1), across)
    below = at_corners(width).lerp_(at_corners(width + 1), across)
    means = above.lerp_(below, down).diff(dim=1).diff(dim=2)
    areas = y.diff(dim=1)[:, :, None] * x.diff(dim=1)[:, None]
    return (means / areas.clamp(min=1e-9)[..., None]).float()
