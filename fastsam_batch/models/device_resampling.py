"""Where the pixels of many crops lie in what they show, and their bicubic enlargement, on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from fastsam_batch.models.crops import Place

_CUBIC = -0.75  # as OpenCV's INTER_CUBIC


@dataclass(frozen=True)
class Axis:
    """One axis of n regions, float64 [n, 1] each: first pixel, length, crop pixels and where these begin."""

    first: torch.Tensor
    length: torch.Tensor
    cells: torch.Tensor
    place: torch.Tensor

    @staticmethod
    def of(places: Sequence[Place], axis: int, device: torch.device) -> Axis:
        """Of rows for axis 0, of columns for axis 1."""
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
        return Axis(*(table[:, column : column + 1] for column in range(4)))


def within(places: Sequence[Place], size: int, device: torch.device) -> torch.Tensor:
    """Which pixels of the crops show their regions, bool [n, size, size]."""
    cell = torch.arange(size, dtype=torch.float64, device=device)
    rows, columns = (
        (cell >= of.place) & (cell < of.place + of.cells) for of in (Axis.of(places, axis, device) for axis in (0, 1))
    )
    return rows[:, :, None] & columns[:, None, :]


def enlarged(
    pixels: torch.Tensor,
    index: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    places: Sequence[Place],
    size: int,
) -> torch.Tensor:
    """Regions enlarged bicubically, float32 [n, size, size, c] of whole numbers; of no meaning outside them.

    `pixels` uint8 [p, c] in any order: `index` tells the places among them of rows int64 [n, size, 1] and columns
    [n, 1, size] of the regions' image.
    """
    taps, weights = [], []
    for axis in (0, 1):
        of = Axis.of(places, axis, pixels.device)
        cell = torch.arange(size, dtype=torch.float64, device=pixels.device) - of.place
        at = (cell + 0.5) * (of.length / of.cells) - 0.5
        low = at.floor()
        tap = low[..., None] + torch.arange(-1, 3, device=pixels.device)
        weights.append(_cubic((at - low)[..., None] - torch.arange(-1, 3, device=pixels.device)).float())
        inside = tap.clamp(min=0).minimum(of.length[..., None] - 1)
        taps.append((of.first[..., None] + inside).long())
    (rows, columns), (down, across) = taps, weights
    found = pixels.new_zeros((len(places), size, size, pixels.shape[1]), dtype=torch.float32)
    for i in range(4):
        for j in range(4):
            weight = down[:, :, None, i] * across[:, None, :, j]
            found += pixels[index(rows[:, :, None, i], columns[:, None, :, j])] * weight[..., None]
    return found.round_().clamp_(0, 255)


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    """Weights of the cubic convolution at distances from -2 to 2 (Keys 1981)."""
    d = distance.abs()
    near = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    far = ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC
    return torch.where(d <= 1, near, far)
