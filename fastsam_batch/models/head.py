"""The head of a YOLOv8-seg and its kin (YOLO11, YOLO26), evaluated where it is asked for.

Scores are wanted at every anchor; boxes and mask coefficients only where a score passes the threshold, which is one
anchor in fifty or so. There the head's convolutions are a matrix product over the cells around those anchors. The
architecture is Ultralytics' (nn/modules/head.py, `Segment`); what comes out is what it computes, but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

COEFFICIENTS = 32  # of a mask, one for each prototype
# Share of a map's cells above which convolving all of them costs less than the product over the chosen ones.
DENSE = 0.6
_TOGETHER = 1024  # cells whose neighbourhoods are in memory at once, nine times what the map has of them
_OFFSETS = (-1, 0, 1)


class Head:
    """Predictions of a fused head in evaluation mode; keeps nothing of an input, so threads may share it."""

    def __init__(self, head: Any) -> None:
        from ultralytics.nn.modules.block import Proto26

        self._head = head
        self._reads_all = isinstance(head.proto, Proto26)
        self._bins = int(head.reg_max)
        self._strides = [float(stride) for stride in head.stride]
        self._around = [_around(*branches) for branches in zip(head.cv2, head.cv4, strict=True)]

    def predictions(self, features: Sequence[torch.Tensor], conf: float) -> list[torch.Tensor]:
        """Of each image of a batch float32 [4 + classes + 32, anchors]: box cx, cy, w, h in input pixels, scores,
        coefficients. Anchors in which no score is above `conf` may be missing; the others keep their order.

        `features` are the levels [b, channels, h, w] that the head reads.
        """
        if features[0].device.type != "cpu":  # choosing takes many small steps, and each a call
            return list(torch.cat([self._everywhere(level, each) for level, each in enumerate(features)], 2))
        images = [[each[image : image + 1] for each in features] for image in range(len(features[0]))]
        return [
            torch.cat([self._where_likely(level, each, conf) for level, each in enumerate(image)], 1)
            for image in images
        ]

    def prototypes(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Mask prototypes [b, 32, h / 4, w / 4]."""
        found: torch.Tensor = self._head.proto(list(features) if self._reads_all else features[0])
        return found

    def _everywhere(self, level: int, feature: torch.Tensor) -> torch.Tensor:
        """[b, 4 + classes + 32, cells] of a level."""
        head = self._head
        distances, scores, coefficients = (
            branches[level](feature).flatten(2) for branches in (head.cv2, head.cv3, head.cv4)
        )
        cells = torch.arange(distances.shape[2], device=feature.device)
        boxes = self._boxes(level, distances, cells, feature.shape[3])
        return torch.cat([boxes, scores.float().sigmoid(), coefficients.float()], 1)

    def _where_likely(self, level: int, feature: torch.Tensor, conf: float) -> torch.Tensor:
        """[4 + classes + 32, n] of the n cells of one image's level that have a score above `conf`."""
        scores = self._head.cv3[level](feature)[0].flatten(1).float().sigmoid()
        cells = (scores.amax(0) > conf).nonzero().squeeze(1)
        around = self._around[level]
        found = around.at(feature[0], cells) if around else None
        if found is None:
            branches = self._head.cv2[level], self._head.cv4[level]
            found = [branch(feature)[0].flatten(1)[:, cells] for branch in branches]
        distances, coefficients = found
        boxes = self._boxes(level, distances[None], cells, feature.shape[3])[0]
        return torch.cat([boxes, scores[:, cells], coefficients.float()], 0)

    def _boxes(self, level: int, distances: torch.Tensor, cells: torch.Tensor, width: int) -> torch.Tensor:
        """float32 [b, 4, n] from [b, 4 * bins, n], how likely each distance to a box's sides is, at n cells.

        Always in float32: in half precision a coordinate would be off by up to two pixels at 1024.
        """
        distances = distances.float()
        if self._bins > 1:  # YOLO26 gives a distance as it is
            count, _, anchors = distances.shape
            shares = distances.view(count, 4, self._bins, anchors).softmax(2)
            bins = torch.arange(self._bins, device=shares.device, dtype=shares.dtype)
            distances = torch.einsum("bsna,n->bsa", shares, bins)
        left_top, right_bottom = distances.chunk(2, 1)
        centres = torch.stack([cells % width, cells.div(width, rounding_mode="floor")]).float() + 0.5
        corners = centres - left_top, centres + right_bottom
        return torch.cat([(corners[0] + corners[1]) / 2, corners[1] - corners[0]], 1) * self._strides[level]


class _Around:
    """Two branches of 3x3, 3x3 and 1x1 convolutions over one feature map, at some of its cells."""

    def __init__(self, branches: Sequence[Any]) -> None:
        self._activation = branches[0][0].act
        self._first = torch.cat([_rows(branch[0].conv) for branch in branches])
        self._first_bias = torch.cat([branch[0].conv.bias for branch in branches])
        self._second = [(_rows(branch[1].conv), branch[1].conv.bias) for branch in branches]
        self._last = [(_rows(branch[2]), branch[2].bias) for branch in branches]
        self._widths = [branch[0].conv.out_channels for branch in branches]

    def at(self, feature: torch.Tensor, cells: torch.Tensor) -> list[torch.Tensor] | None:
        """Each branch's [channels, n] at n `cells` (row * width + column) of a map [channels, h, w], or None where
        convolving the whole map costs less.
        """
        _, height, width = feature.shape
        offsets = torch.tensor([row * (width + 2) + column for row in _OFFSETS for column in _OFFSETS])
        places = (cells.div(width, rounding_mode="floor") + 1) * (width + 2) + cells % width + 1  # in a padded map
        wanted = torch.zeros(height + 2, width + 2, dtype=torch.bool)
        wanted.view(-1)[places[:, None] + offsets] = True
        wanted[[0, -1]] = wanted[:, [0, -1]] = False  # a convolution's padding is zero, not what another made of it
        needed = wanted.view(-1).nonzero().squeeze(1)
        if len(needed) > DENSE * height * width:
            return None
        padded = functional.pad(feature.permute(1, 2, 0), (0, 0, 1, 1, 1, 1)).flatten(0, 1)
        middle = padded.new_zeros(len(padded), len(self._first))
        for some in torch.split(needed, _TOGETHER):
            gathered = padded[some[:, None] + offsets].flatten(1)
            middle[some] = self._activation(functional.linear(gathered, self._first, self._first_bias))
        parts = [self._then(middle[some[:, None] + offsets]) for some in torch.split(places, _TOGETHER)]
        return [torch.cat(of_branch, 1) for of_branch in zip(*parts, strict=True)]

    def _then(self, near: torch.Tensor) -> list[torch.Tensor]:
        """Each branch's [channels, n] of what the first convolutions give around n cells, [n, 9, channels]."""
        return [
            functional.linear(self._activation(functional.linear(rows.flatten(1), *second)), *last).T
            for rows, second, last in zip(torch.split(near, self._widths, 2), self._second, self._last, strict=True)
        ]


def _around(*branches: Any) -> _Around | None:
    """None for branches of another form, which are then convolved whole."""
    for branch in branches:
        convolutions = [getattr(layer, "conv", layer) for layer in branch]
        if [_form(each) for each in convolutions] != [(3, 1, 1, 1, 1), (3, 1, 1, 1, 1), (1, 1, 0, 1, 1)]:
            return None
        if any(type(getattr(layer, "act", None)) is not nn.SiLU for layer in branch[:2]):
            return None
    return _Around(branches)


def _form(layer: Any) -> tuple[int, ...] | None:
    """Kernel, stride, padding, dilation, groups of a square convolution with a bias."""
    if type(layer) is not nn.Conv2d or layer.bias is None or layer.padding_mode != "zeros":
        return None
    pairs = [layer.kernel_size, layer.stride, layer.padding, layer.dilation]
    if any(isinstance(pair, str) or pair[0] != pair[1] for pair in pairs):
        return None
    return (*(int(pair[0]) for pair in pairs), layer.groups)


def _rows(convolution: nn.Conv2d) -> torch.Tensor:
    """Its weights [out, rows * columns * channels], in the order in which cells are gathered."""
    return convolution.weight.permute(0, 2, 3, 1).flatten(1).contiguous()
