"""Crops of masks on a device: all of an image at once, each pixel the mean of what it covers of the image.

The crops of `models/crops.py` without its pyramid: the sums of all pixels above and left of each, made once an image,
tell the mean of any rectangle by its corners (Crow, "Summed-area tables for texture mapping", SIGGRAPH 1984).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.crops import Place, mask_share, place_of

_CUBIC = -0.75  # as OpenCV's INTER_CUBIC


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
    shares = np.zeros((len(places), size, size), np.uint8)
    masks = product(kinds, zip(rles, bboxes_xywh, strict=True))
    for canvas, place, (kind, (rle, box)) in zip(shares, places, masks, strict=True):
        rows, columns = place.crop_hw
        inside = canvas[place.top : place.top + rows, place.left : place.left + columns]
        inside[:] = np.round(mask_share(rle, box, place.crop_hw) * 255) if kind == "masked" else 255
    # Those that shrink, and then those that are enlarged, each all at once.
    enlarged = np.array([not _shrinks(place) for place in places])
    order = np.argsort(enlarged, kind="stable")
    sorted_places = [places[index] for index in order]
    shrinking = len(places) - int(enlarged.sum())
    parts = [
        resized(of_image, some, size)
        for resized, of_image, some in (
            (_shrunk, image.sums, sorted_places[:shrinking]),
            (_enlarged, image.pixels, sorted_places[shrinking:]),
        )
        if some
    ]
    fill = torch.from_numpy(fill_rgb).to(device).float()
    share = torch.from_numpy(shares[order]).to(device).float().div_(255)[..., None]
    crops = (torch.cat(parts) * share + fill * (1 - share)).round_().to(torch.uint8)
    back = torch.from_numpy(np.argsort(order)).to(device)
    return crops[back].view(len(kinds), len(rles), size, size, 3)


def _shrinks(place: Place) -> bool:
    left, top, right, bottom = place.region_xyxy
    return place.crop_hw[0] < bottom - top or place.crop_hw[1] < right - left


@dataclass(frozen=True)
class _Axis:
    """One axis of n regions, float64 [n, 1] each: first pixel, length, crop pixels and where these begin."""

    first: torch.Tensor
    length: torch.Tensor
    cells: torch.Tensor
    place: torch.Tensor

    @staticmethod
    def of(places: Sequence[Place], axis: int, device: torch.device) -> _Axis:
        rows = [
            (
                place.region_xyxy[1 - axis],
                place.region_xyxy[3 - axis] - place.region_xyxy[1 - axis],
                place.crop_hw[axis],
                (place.top, place.left)[axis],
            )
            for place in places
        ]
        table = torch.tensor(rows, dtype=torch.float64, device=device).reshape(-1, 4)
        return _Axis(*(table[:, column : column + 1] for column in range(4)))


def _shrunk(sums: torch.Tensor, places: Sequence[Place], size: int) -> torch.Tensor:
    """Means of the image under each pixel of crops, float32 [n, size, size, 3]; 0 outside the regions."""
    count, width = len(places), sums.shape[1]
    table = sums.flatten(0, 1)
    edges = []
    for axis in (0, 1):
        of = _Axis.of(places, axis, sums.device)
        cell = torch.arange(size + 1, dtype=torch.float64, device=sums.device) - of.place
        at = of.first + cell.clamp(min=0).minimum(of.cells) * (of.length / of.cells)
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


def _enlarged(pixels: torch.Tensor, places: Sequence[Place], size: int) -> torch.Tensor:
    """Regions enlarged bicubically, float32 [n, size, size, 3]; of no meaning outside them."""
    taps, weights = [], []
    for axis in (0, 1):
        of = _Axis.of(places, axis, pixels.device)
        cell = torch.arange(size, dtype=torch.float64, device=pixels.device) - of.place
        at = (cell + 0.5) * (of.length / of.cells) - 0.5
        low = at.floor()
        tap = low[..., None] + torch.arange(-1, 3, device=pixels.device)
        weights.append(_cubic((at - low)[..., None] - torch.arange(-1, 3, device=pixels.device)).float())
        inside = tap.clamp(min=0).minimum(of.length[..., None] - 1)
        taps.append((of.first[..., None] + inside).long())
    (rows, columns), (down, across) = taps, weights
    found = pixels.new_zeros((len(places), size, size, 3), dtype=torch.float32)
    for i in range(4):
        for j in range(4):
            weight = down[:, :, None, i] * across[:, None, :, j]
            found += pixels[rows[:, :, None, i], columns[:, None, :, j]] * weight[..., None]
    return found.round_().clamp_(0, 255)


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    """Weights of the cubic convolution at distances from -2 to 2 (Keys 1981)."""
    d = distance.abs()
    near = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    far = ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC
    return torch.where(d <= 1, near, far)
