"""How much of each pixel of their crops masks are, on a device: all masks of an image at once, from their runs.

As `mask_share` of `models/crops.py`, whose many small steps would keep Python's lock from the thread that keeps a GPU
at work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fastsam_batch.masks.rle import Rle
from fastsam_batch.masks.runs import Runs, all_runs, by_column
from fastsam_batch.models.crops import Place
from fastsam_batch.models.device_resampling import Axis, enlarged, within


def mask_shares(rles: Sequence[Rle], places: Sequence[Place], size: int, device: torch.device) -> torch.Tensor:
    """The masks' shares of the pixels of their crops, float32 [n, size, size] in [0, 1] on the device.

    The regions of `places` are the masks' tight boxes. Raises ValueError for a broken RLE.
    """
    shares = torch.zeros((len(rles), size, size), device=device)
    coarser = np.array([_is_coarser(place) for place in places])
    for some, share in ((np.flatnonzero(coarser), _covered), (np.flatnonzero(~coarser), _interpolated)):
        if len(some):
            pieces = _Pieces.of([rles[index] for index in some.tolist()], device)
            shares[torch.from_numpy(some).to(device)] = share(pieces, [places[index] for index in some.tolist()], size)
    return shares


@dataclass(frozen=True)
class _Pieces:
    """Runs of masks cut where columns end, on a device: of each the mask, column, first row and end row, int64 [p]."""

    masks: torch.Tensor
    columns: torch.Tensor
    tops: torch.Tensor
    bottoms: torch.Tensor

    @staticmethod
    def of(rles: Sequence[Rle], device: torch.device) -> _Pieces:
        """All masks are of one image, so that one behind the other they are those of a wider one."""
        height, width = rles[0].size
        runs = all_runs([rle.counts for rle in rles], (height, width))
        before = np.repeat(np.arange(len(runs)) * (height * width), [len(each) for each in runs])
        starts, ends = (np.concatenate(each) + before for each in zip(*((r.starts, r.ends) for r in runs), strict=True))
        columns, tops, bottoms = torch.from_numpy(np.stack(by_column(Runs(starts, ends), height))).to(device)
        return _Pieces(columns // width, columns % width, tops, bottoms)


def _is_coarser(place: Place) -> bool:
    """Whether a crop's pixels are no smaller than the image's."""
    left, top, right, bottom = place.region_xyxy
    return place.crop_hw[0] <= bottom - top and place.crop_hw[1] <= right - left


def _covered(pieces: _Pieces, places: Sequence[Place], size: int) -> torch.Tensor:
    """The covered share of each pixel, as `masks/coverage.py` computes it."""
    device = pieces.masks.device
    down, across = (Axis.of(places, axis, device).table[pieces.masks] for axis in (0, 1))
    # A column of pixels lies in one column of cells, or in two: the share of its width in the first of them.
    first_pixel, length, cells, place = across.unbind(1)
    scale = cells / length
    at = (pieces.columns - first_pixel) * scale
    first = at.long().double().minimum(cells - 1)
    in_first = torch.where(first == cells - 1, 1.0, ((first + 1 - at) / scale).clamp(max=1))
    corner = (pieces.masks * (size + 1) + (first + place).long()) * (size + 2)
    # Down a column, coverage rises by a run's start and falls by its end, in the cell that holds it in part.
    first_pixel, length, cells, place = down.unbind(1)
    changes = torch.zeros(len(places) * (size + 1) * (size + 2), dtype=torch.float64, device=device)
    for ends, sign in ((pieces.tops, scale), (pieces.bottoms, -scale)):
        at = (ends - first_pixel) * (cells / length)
        cell = at.long()
        later = sign * (at - cell)
        line = corner + cell + place.long()
        for offset, step in ((0, sign - later), (1, later)):
            changes.index_add_(0, line + offset, step * in_first)
            changes.index_add_(0, line + offset + size + 2, step * (1 - in_first))
    shares = changes.view(len(places), size + 1, size + 2).cumsum_(2)[:, :size, :size]
    return shares.transpose(1, 2).float().clamp_(0, 1)


def _interpolated(pieces: _Pieces, places: Sequence[Place], size: int) -> torch.Tensor:
    """Bicubically, of masks whose boxes are no larger than their crops."""
    device, masks = pieces.masks.device, pieces.masks
    boxes = torch.tensor([place.region_xyxy for place in places], device=device)[masks]
    # Their pixels, down the columns, with room for the highest and the widest.
    sides = [(right - left, bottom - top) for left, top, right, bottom in (place.region_xyxy for place in places)]
    columns, rows = (max(of_axis) for of_axis in zip(*sides, strict=True))
    turns = torch.zeros(len(places) * columns * rows + 1, dtype=torch.int32, device=device)
    column = (masks * columns + pieces.columns - boxes[:, 0]) * rows - boxes[:, 1]
    one = torch.ones_like(column, dtype=torch.int32)
    turns.index_add_(0, column + pieces.tops, one).index_add_(0, column + pieces.bottoms, -one)
    inside = (turns.cumsum_(0)[:-1] * 255).to(torch.uint8).view(-1, columns, rows, 1).transpose(1, 2)
    of = torch.arange(len(places), device=device)[:, None, None]
    of_boxes = [replace(place, region_xyxy=(0, 0, *side)) for place, side in zip(places, sides, strict=True)]
    return enlarged(inside, of, of_boxes, size)[..., 0] / 255 * within(places, size, device)
