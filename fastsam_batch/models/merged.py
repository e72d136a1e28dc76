"""Mask prototypes by two and a half times fewer products: what doubles a map, merged with what reads it.

Ultralytics' `Proto` (nn/modules/block.py) doubles its features by a transposed convolution (2x2, stride 2) that no
activation follows, and convolves the large map (3x3). For each of the four places in a doubled cell the two together
are one 2x2 convolution of the small map: 16 products a cell and pair of channels, not 40.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_FIRST, _INNER, _LAST = 0, 1, 3  # places of a border that mends a map of any size


def merge_prototypes(head: Any) -> None:
    """Exchange the prototypes of a fused segmentation head, float32 on the CPU; those of another form stay."""
    from ultralytics.nn.modules.block import Proto

    if type(head.proto) is Proto:
        head.proto = MergedPrototypes(head.proto)


class MergedPrototypes(nn.Module):
    """A fused `Proto` in evaluation mode: the same prototypes, but for rounding."""

    weight: torch.Tensor
    bias: torch.Tensor
    border: torch.Tensor

    def __init__(self, proto: Any) -> None:
        super().__init__()
        self.before, self.between, self.after = proto.cv1, proto.cv2.act, proto.cv3
        weight, of_bias = _merge(proto.upsample, proto.cv2.conv)
        inside = of_bias.sum((1, 2, 3))
        # The transposed convolution's bias ends at the border, where a convolution pads with zeros: what is missing
        # there, in a map of 3 x 3 cells.
        found = functional.conv2d(torch.ones(1, 1, 3, 3, dtype=of_bias.dtype), of_bias, padding=1)[0]
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", (inside + proto.cv2.conv.bias.repeat(4)).float())
        self.register_buffer("border", (found - inside[:, None, None]).float())

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """[b, prototypes, 2 h, 2 w] of a map [b, channels, h, w] of at least 2 x 2 cells."""
        count, _, height, width = feature.shape
        found = functional.conv2d(self.before(feature), self.weight, self.bias, padding=1)
        self._mend(found)
        rows = self.between(found).permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))
        planes: torch.Tensor = self.after.act(
            functional.linear(rows, self.after.conv.weight.flatten(1), self.after.conv.bias)
        )
        doubled = planes.new_empty(count, height, 2, width, 2, planes.shape[-1])
        for down in (0, 1):
            for right in (0, 1):
                doubled[:, :, down, :, right] = planes[:, down : down + height, right : right + width, down, right]
        return doubled.flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)

    def _mend(self, found: torch.Tensor) -> None:
        """Add what is missing at the border of [b, 4 * channels, h + 1, w + 1]."""
        places = torch.full((found.shape[3],), _INNER)
        places[0], places[-1] = _FIRST, _LAST
        for row, place in ((0, _FIRST), (-1, _LAST)):
            found[:, :, row] += self.border[:, place, places]
        for column, place in ((0, _FIRST), (-1, _LAST)):
            found[:, :, 1:-1, column] += self.border[:, _INNER, place, None]


def _merge(doubling: Any, reading: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """float64 weights of 2x2 convolutions: [4 * out, in, 2, 2], and [4 * out, 1, 2, 2] of `doubling`'s bias alone.

    The four are the places in a doubled cell, by rows: the first place reads its cell and the one before, the second
    its cell and the next. Theirs are [in, between, 2, 2] and [out, between, 3, 3].
    """
    large, small, bias = (each.double() for each in (reading.weight, doubling.weight, doubling.bias))
    weight = large.new_zeros(2, 2, len(large), len(small), 2, 2)
    of_bias = large.new_zeros(2, 2, len(large), 1, 2, 2)
    for down, right, row, column in product(range(2), range(2), range(3), range(3)):
        cell_down, place_down = divmod(down + row - 1, 2)
        cell_right, place_right = divmod(right + column - 1, 2)
        tap = cell_down + 1 - down, cell_right + 1 - right
        weight[down, right, :, :, tap[0], tap[1]] += large[:, :, row, column] @ small[:, :, place_down, place_right].T
        of_bias[down, right, :, 0, tap[0], tap[1]] += large[:, :, row, column] @ bias
    return weight.flatten(0, 2), of_bias.flatten(0, 2)
