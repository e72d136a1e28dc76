"""The mask stage on the device that holds the prototypes: what travels from a GPU are packed runs.

The method of `masks/prototypes.py`, for all masks of an image at once: their columns' profiles lie one after the other
in one long row, of which every step takes all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fastsam_batch.masks.prototypes import LEVELS, OUTSIDE, EncodedMasks
from fastsam_batch.masks.rle import GROUP_BITS, MAX_GROUPS
from fastsam_batch.masks.upsampling import Blend, Nodes, upsampling

_PLACES_AT_ONCE = 8_000_000  # of the profiles, about 0.8 GB with what is computed from them
_LOGITS_A_PLACE = 5  # that take as much memory before


def encode_masks_on_device(
    prototypes: torch.Tensor,
    coefficients: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float32],
    image_hw: tuple[int, int],
) -> EncodedMasks:
    """As `encode_masks`, with prototypes float32 [c, h, w] on any device; equal but for the rounding of logits."""
    geometry = _Geometry.of(prototypes, image_hw)
    parts = [
        _encode(prototypes, coefficients[chosen], some, geometry, chosen)
        for chosen, some in _in_parts(_boxes(boxes_xyxy, geometry), prototypes.shape[2] * len(geometry.down.positions))
    ]
    return EncodedMasks(
        kept=np.concatenate([part.kept for part in parts] or [np.zeros(0, np.int64)]),
        counts=[counts for part in parts for counts in part.counts],
        areas=np.concatenate([part.areas for part in parts] or [np.zeros(0, np.int64)]),
        bboxes_xywh=np.concatenate([part.bboxes_xywh for part in parts] or [np.zeros((0, 4), np.float32)]),
        stability=np.concatenate([part.stability for part in parts] or [np.zeros(0, np.float32)]),
    )


@dataclass(frozen=True)
class _DeviceBlend:
    """A `Blend` on the device."""

    low: torch.Tensor
    high: torch.Tensor
    weight: torch.Tensor

    @staticmethod
    def of(blend: Blend, device: torch.device) -> _DeviceBlend:
        return _DeviceBlend(*(torch.from_numpy(each).to(device) for each in (blend.low, blend.high, blend.weight)))


@dataclass(frozen=True)
class _Geometry:
    """`masks/upsampling.py` on the device, `down` on the host too; `positions` float64 of the nodes."""

    image_hw: tuple[int, int]
    down: Nodes
    rows: _DeviceBlend
    positions: torch.Tensor
    image: _DeviceBlend
    upsampled: _DeviceBlend

    @staticmethod
    def of(prototypes: torch.Tensor, image_hw: tuple[int, int]) -> _Geometry:
        device = prototypes.device
        proto_h, proto_w = prototypes.shape[1:]
        down, across = upsampling((proto_h, proto_w), image_hw)
        blends = (_DeviceBlend.of(blend, device) for blend in (across.image, across.upsampled))
        positions = torch.from_numpy(down.positions).to(device)
        return _Geometry(image_hw, down, _DeviceBlend.of(down.blend, device), positions, *blends)


def _boxes(boxes_xyxy: NDArray[np.float32], geometry: _Geometry) -> NDArray[np.int64]:
    """For each box its first and end column and row, and its first node and how many, int64 [n, 6]."""
    height, width = geometry.image_hw
    whole = np.ceil(boxes_xyxy).astype(np.int64)
    columns, rows = np.clip(whole[:, [0, 2]], 0, width), np.clip(whole[:, [1, 3]], 0, height)
    positions = geometry.down.positions
    first = np.maximum(positions.searchsorted(rows[:, 0], "right") - 1, 0)
    last = np.minimum(positions.searchsorted(rows[:, 1] - 1, "left"), len(positions) - 1)
    return np.column_stack([columns, rows, first, last + 1 - first])


def _in_parts(boxes: NDArray[np.int64], at_nodes: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Boxes that hold a pixel, some at a time, with which they are. Each has `at_nodes` logits before its profiles."""
    chosen = np.flatnonzero((boxes[:, 0] < boxes[:, 1]) & (boxes[:, 2] < boxes[:, 3]))
    ends = np.cumsum(_places(boxes[chosen]) + at_nodes // _LOGITS_A_PLACE)
    while len(chosen):
        count = max(int(ends.searchsorted(_PLACES_AT_ONCE, "right")), 1)
        yield chosen[:count], boxes[chosen[:count]]
        chosen, ends = chosen[count:], ends[count:] - ends[count - 1]


def _places(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many places the profiles of boxes have: a sentinel and the nodes of each column."""
    places: NDArray[np.int64] = (boxes[:, 1] - boxes[:, 0]) * (1 + boxes[:, 5])
    return places


@dataclass(frozen=True)
class _Profiles:
    """Profiles of all columns of all masks: `logits` float32 [places + 1], ended by a sentinel.

    Of each place: `mask`, `column` of the image, `node` among those of its box, from 1 on, 0 a sentinel. `boxes` as
    `_boxes` gives them, on the device.
    """

    logits: torch.Tensor
    mask: torch.Tensor
    column: torch.Tensor
    node: torch.Tensor
    boxes: torch.Tensor


def _encode(
    prototypes: torch.Tensor,
    coefficients: NDArray[np.float32],
    boxes: NDArray[np.int64],
    geometry: _Geometry,
    indices: NDArray[np.int64],
) -> EncodedMasks:
    height, width = geometry.image_hw
    profiles = _profiles(prototypes, torch.from_numpy(coefficients).to(prototypes.device), boxes, geometry)
    crossings = _crossings(profiles, geometry)
    level = crossings.at(1)  # between the two that stability asks for
    edges, of_edge = _without_empty_runs(level.columns * height + level.rows, level.masks)
    runs = torch.bincount(of_edge, minlength=len(boxes))
    text, lengths = _packed(*_run_lengths(edges, of_edge, runs, height * width))
    sums = torch.stack([runs, lengths])
    told = torch.cat([sums, crossings.areas(len(boxes)), _tight_boxes(level, len(boxes)).T]).cpu().numpy()
    kept = told[0] > 0
    left, top, right, bottom = told[5:, kept]
    characters = text.cpu().numpy().tobytes().decode("ascii")
    ends = np.cumsum(told[1])
    return EncodedMasks(
        kept=indices[kept],
        counts=[characters[end - length : end] for end, length in zip(ends[kept], told[1, kept], strict=True)],
        areas=told[3, kept],
        bboxes_xywh=np.column_stack([left, top, right - left, bottom - top]).astype(np.float32),
        stability=(told[4, kept] / told[2, kept]).astype(np.float32),
    )


def _profiles(
    prototypes: torch.Tensor, coefficients: torch.Tensor, boxes: NDArray[np.int64], geometry: _Geometry
) -> _Profiles:
    device = prototypes.device
    planes = (coefficients @ prototypes.flatten(1)).view(-1, *prototypes.shape[1:])
    lower = planes[:, geometry.rows.low]
    at_nodes = lower + (planes[:, geometry.rows.high] - lower) * geometry.rows.weight[:, None]
    places = _places(boxes)
    on_device = torch.from_numpy(boxes).to(device)
    sizes = torch.from_numpy(places).to(device)
    mask = torch.repeat_interleave(sizes, output_size=int(places.sum()))
    place = torch.arange(len(mask), device=device) - (sizes.cumsum(0) - sizes)[mask]
    span = 1 + on_device[mask, 5]
    column = place // span
    node = place - column * span
    column += on_device[mask, 0]
    row = (mask * at_nodes.shape[1] + on_device[mask, 4] + (node - 1).clamp(min=0)) * at_nodes.shape[2]
    values = at_nodes.flatten()

    def upsampled(of_image: torch.Tensor) -> torch.Tensor:
        across = geometry.upsampled
        low = values[row + across.low[of_image]]
        return low + (values[row + across.high[of_image]] - low) * across.weight[of_image]

    lower = upsampled(geometry.image.low[column])
    logits = lower + (upsampled(geometry.image.high[column]) - lower) * geometry.image.weight[column]
    logits = torch.nn.functional.pad(logits.masked_fill(node == 0, OUTSIDE), (0, 1), value=OUTSIDE)
    return _Profiles(logits, mask, column, node, on_device)


@dataclass(frozen=True)
class _Crossings:
    """Where columns cross levels, entering and leaving alternately: level, mask, image column and first row past it.

    Levels are places in LEVELS, ascending.
    """

    levels: torch.Tensor
    masks: torch.Tensor
    columns: torch.Tensor
    rows: torch.Tensor

    def at(self, level: int) -> _Crossings:
        """Those of one level."""
        ends = torch.arange(level, level + 2, device=self.levels.device)
        first, end = torch.searchsorted(self.levels, ends).tolist()
        return _Crossings(*(each[first:end] for each in (self.levels, self.masks, self.columns, self.rows)))

    def areas(self, count: int) -> torch.Tensor:
        """Pixels of each of `count` masks above each level, int64 [levels, count]."""
        entering, leaving = self.rows[0::2], self.rows[1::2]
        of = self.levels[0::2] * count + self.masks[0::2]
        return self.rows.new_zeros(len(LEVELS) * count).index_add_(0, of, leaving - entering).view(-1, count)


def _crossings(profiles: _Profiles, geometry: _Geometry) -> _Crossings:
    logits = profiles.logits
    heights = logits.new_tensor(LEVELS)
    above = logits > heights[:, None]
    levels, turns = (above[:, 1:] != above[:, :-1]).nonzero().T.contiguous()
    mask, node = profiles.mask[turns], profiles.node[turns]
    box = profiles.boxes[mask]
    value, level = logits[turns], heights[levels]
    share = (value - level) / (value - logits[turns + 1])  # on both sides of the level, so they differ
    # From the sentinel into a column the mask starts at the box's first row; from the last node on, it ends at the
    # box's end.
    here = box[:, 4] + (node - 1).clamp(min=0)
    place = geometry.positions[here]
    step = geometry.positions[(here + 1).clamp(max=len(geometry.positions) - 1)] - place
    inside = (node > 0) & (node < box[:, 5])
    edge = torch.where(node == 0, box[:, 2] - 1, box[:, 3]).double()
    crossing = torch.where(inside, place + step * share, edge)
    # The first row past it: behind it when entering, at it when leaving (a logit at the level is outside).
    entering, leaving = crossing[0::2].floor() + 1, crossing[1::2].ceil()
    rows = torch.stack([entering, leaving], 1).flatten().long()
    return _Crossings(levels, mask, profiles.column[turns], rows.clamp(box[:, 2], box[:, 3]))


def _tight_boxes(level: _Crossings, count: int) -> torch.Tensor:
    """left, top, right, bottom int64 [count, 4], ends exclusive; of no meaning where a mask has no pixel."""
    entering, leaving = level.rows[0::2], level.rows[1::2]
    filled = (entering < leaving).nonzero()[:, 0]  # the others lie between two rows of pixels
    mask, column = level.masks[0::2][filled], level.columns[0::2][filled]

    def most(values: torch.Tensor, kind: str) -> torch.Tensor:
        return values.new_zeros(count).scatter_reduce_(0, mask, values, kind, include_self=False)

    first, last = most(column, "amin"), most(column, "amax") + 1
    return torch.stack([first, most(entering[filled], "amin"), last, most(leaving[filled], "amax")], 1)


def _without_empty_runs(edges: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ascending edges of each mask with those at one place cancelled in pairs, and whose they are."""
    changes = (edges[1:] != edges[:-1]) | (masks[1:] != masks[:-1])
    first = torch.nn.functional.pad(changes, (1, 0), value=True)[: len(edges)]
    places = first.nonzero()[:, 0]
    count = torch.diff(places, append=places.new_tensor([len(edges)]))
    odd = places[count % 2 == 1]
    return edges[odd], masks[odd]


def _run_lengths(
    edges: torch.Tensor, masks: torch.Tensor, runs: torch.Tensor, pixels: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths of background and foreground runs of all masks, int64, and how many each has, of `runs` edges each.

    Where the last edge is the image's end, no background follows; a mask without edges has no runs.
    """
    ends = runs.cumsum(0)
    filled = runs > 0
    last = torch.zeros_like(runs)
    last[filled] = edges[ends[filled] - 1]
    more = (filled & (last < pixels)).long()
    before = ends - runs + more.cumsum(0) - more  # where each mask's lengths begin
    out = edges.new_zeros(int(len(edges) + more.sum()))
    first = torch.nn.functional.pad(masks[1:] != masks[:-1], (1, 0), value=True)[: len(edges)]
    previous = torch.nn.functional.pad(edges, (1, 0))[: len(edges)].masked_fill(first, 0)
    out[torch.arange(len(edges), device=edges.device) - (ends - runs)[masks] + before[masks]] = edges - previous
    rest = more.bool()
    out[(before + runs)[rest]] = pixels - last[rest]
    return out, runs + more


def _packed(counts: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `pack_counts`: the characters of all strings, uint8, and how many each has."""
    owner = torch.repeat_interleave(lengths, output_size=len(counts))
    place = torch.arange(len(counts), device=counts.device) - (lengths.cumsum(0) - lengths)[owner]
    two_before = torch.nn.functional.pad(counts, (2, 0))[: len(counts)]
    values = torch.where(place > 2, counts - two_before, counts)
    halves = torch.tensor([1 << (GROUP_BITS * width - 1) for width in range(1, MAX_GROUPS)], device=counts.device)
    groups = 1 + ((values[:, None] < -halves) | (values[:, None] >= halves)).sum(1)
    of = torch.repeat_interleave(groups)
    digit = torch.arange(len(of), device=of.device) - (groups.cumsum(0) - groups)[of]
    spread = values[of] >> (GROUP_BITS * digit)
    more = (digit < groups[of] - 1).long()
    text = ((spread & 31) | more << GROUP_BITS) + 48
    return text.to(torch.uint8), groups.new_zeros(len(lengths)).index_add_(0, owner, groups)
