"""Where the pixels of many crops lie in what they show, and their bicubic enlargement, on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fastsam_batch.models.crops import Place

_CUBIC = -0.75  # as OpenCV's INTER_CUBIC


@dataclass(frozen=True)
class Axis:
    """One axis of n regions, float64 [n, 4]: first pixel, length, crop pixels and where these begin."""

    table: torch.Tensor

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
        return Axis(torch.tensor(rows, dtype=torch.float64, device=device))

    @property
    def fields(self) -> list[torch.Tensor]:
        """The four, [n, 1] each."""
        return list(self.table.T[..., None].unbind())


def within(places: Sequence[Place], size: int, device: torch.device) -> torch.Tensor:
    """Which pixels of the crops show their regions, bool [n, size, size]."""
    cell = torch.arange(size, dtype=torch.float64, device=device)
    inside = []
    for axis in (0, 1):
        _, _, cells, place = Axis.of(places, axis, device).fields
        inside.append((cell >= place) & (cell < place + cells))
    rows, columns = inside
    return rows[:, :, None] & columns[:, None, :]


def enlarged(pixels: torch.Tensor, of: int | torch.Tensor, places: Sequence[Place], size: int) -> torch.Tensor:
    """Regions enlarged bicubically, float32 [n, size, size, c] of whole numbers; of no meaning outside them.

    `pixels` uint8 [m, h, w, c] of m images; the regions are of the image `of`, or of those, int64 [n, 1, 1].
    """
    taps, weights = [], []
    steps = torch.arange(-1, 3, device=pixels.device)
    for axis in (0, 1):
        first_pixel, length, cells, place = Axis.of(places, axis, pixels.device).fields
        cell = torch.arange(size, dtype=torch.float64, device=pixels.device) - place
        at = (cell + 0.5) * (length / cells) - 0.5
        low = at.floor()
        inside = (low[..., None] + steps).clamp(min=0).minimum(length[..., None] - 1)
        taps.append((first_pixel[..., None] + inside).long())
        weights.append(_cubic((at - low)[..., None] - steps).float()[..., None])
    (rows, columns), (down, across) = taps, weights
    found = pixels.new_zeros((len(places), size, size, pixels.shape[3]), dtype=torch.float32)
    for i in range(4):
        line = torch.zeros_like(found)
        for j in range(4):
            line += pixels[of, rows[:, :, None, i], columns[:, None, :, j]] * across[:, None, :, j]
        found += line * down[:, :, None, i]
    return found.round_().clamp_(0, 255)


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    """Weights of the cubic convolution at distances from -2 to 2 (Keys 1981)."""
    d = distance.abs()
    near = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    far = ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC
    return torch.where(d <= 1, near, far)
