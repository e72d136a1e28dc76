"""Mask stage: prototypes and coefficients to COCO runs, without a dense mask at image resolution.

A mask is the sign of a linear combination of prototypes, upsampled bilinearly to the image and cropped
to its box (YOLACT, Bolya et al. 2019, section 3; Ultralytics `utils/ops.py` process_mask_native, whose
geometry is kept exactly). Down one image column a bilinear upsampling is piecewise linear between few
nodes, so its sign changes are found between nodes in closed form: the work is columns x nodes, not
pixels, and what comes out are run starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.boxes import pixel_range
from fastsam_batch.masks.rle import pack_counts, tight_box

PROTOTYPE_STRIDE = 4  # input pixels a prototype pixel covers, in every YOLOv8-seg
STABILITY_OFFSET = 1.0  # in logits, as segment-anything `utils/amg.py` calculate_stability_score
_LEVELS = (-STABILITY_OFFSET, 0.0, STABILITY_OFFSET)
_CHUNK = 32  # masks whose prototype-resolution logits are held at once


@dataclass(frozen=True)
class EncodedMasks:
    """Masks of one image, empty ones left out.

    `kept` int64 [m] indexes the detections; `counts` m COCO strings; `areas` int64 [m] in pixels;
    `bboxes_xywh` float32 [m, 4] tight, in image pixels; `stability` float32 [m].
    """

    kept: NDArray[np.int64]
    counts: list[str]
    areas: NDArray[np.int64]
    bboxes_xywh: NDArray[np.float32]
    stability: NDArray[np.float32]


def encode_masks(
    prototypes: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float32],
    image_hw: tuple[int, int],
) -> EncodedMasks:
    """Masks of one image from its prototypes [c, h, w], coefficients [n, c] and boxes [n, 4].

    Boxes are in image pixels, `image_hw` is (height, width) of the image.
    """
    channels, proto_h, proto_w = prototypes.shape
    height, width = image_hw
    factor, window_y, window_x = _content_window((proto_h, proto_w), image_hw)
    down = _nodes(proto_h, factor, window_y, height)
    across = _columns(proto_w, factor, window_x, width)
    by_column = np.ascontiguousarray(prototypes.transpose(0, 2, 1)).reshape(channels, -1)

    found = []
    for first in range(0, len(coefficients), _CHUNK):
        logits = (coefficients[first : first + _CHUNK] @ by_column).reshape(-1, proto_w, proto_h)
        for offset, plane in enumerate(logits):
            x1, y1, x2, y2 = boxes_xyxy[first + offset].tolist()
            columns, rows = pixel_range(x1, x2, width), pixel_range(y1, y2, height)
            if columns[0] < columns[1] and rows[0] < rows[1]:
                mask = _find_mask(first + offset, plane, across, down, columns, rows, height)
                if len(mask.edges):
                    found.append(mask)

    runs = [_run_lengths(mask.edges, height * width) for mask in found]
    return EncodedMasks(
        kept=np.array([mask.index for mask in found], np.int64),
        counts=pack_counts(
            np.concatenate([*runs, np.zeros(0, np.int64)]), np.array([len(run) for run in runs], np.int64)
        ),
        areas=np.array([_area(mask.edges) for mask in found], np.int64),
        bboxes_xywh=np.array(
            [tight_box(mask.edges[0::2], mask.edges[1::2], height) for mask in found], np.float32
        ).reshape(-1, 4),
        stability=np.array([mask.inner / mask.outer for mask in found], np.float32),
    )


@dataclass(frozen=True)
class _Blend:
    """Samples of an axis as blends of two neighbours: (1 - weight) * a[low] + weight * a[high]."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class _Nodes:
    """Where a column's profile bends: blends of prototype rows, at `positions` in image rows."""

    blend: _Blend
    positions: NDArray[np.float64]


@dataclass(frozen=True)
class _Columns:
    """Image columns as blends of the upsampled prototype columns, those as blends of prototype columns."""

    image: _Blend
    upsampled: _Blend


def _content_window(
    proto_hw: tuple[int, int], image_hw: tuple[int, int]
) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """Upsampling factor, and rows and columns of the upsampled prototypes that hold the image.

    Letterbox padding need not be a multiple of the prototype stride: the prototypes are first upsampled
    by the smallest factor that cuts it on whole pixels.
    """
    height, width = image_hw
    input_h, input_w = PROTOTYPE_STRIDE * proto_hw[0], PROTOTYPE_STRIDE * proto_hw[1]
    gain = min(input_h / height, input_w / width)
    padding = (input_h - max(round(height * gain), 1)) | (input_w - max(round(width * gain), 1))
    factor = PROTOTYPE_STRIDE // math.gcd(PROTOTYPE_STRIDE, padding | padding // 2)
    up_h, up_w = factor * proto_hw[0], factor * proto_hw[1]
    gain = min(up_h / height, up_w / width)
    content_h, content_w = max(round(height * gain), 1), max(round(width * gain), 1)
    top, left = round((up_h - content_h) / 2 - 0.1), round((up_w - content_w) / 2 - 0.1)
    return factor, (top, min(top + content_h, up_h)), (left, min(left + content_w, up_w))


def _bilinear(positions: NDArray[np.float64], size: int) -> _Blend:
    """Blends for sampling an axis of `size` pixels at `positions` (pixel centres whole), edges held."""
    clamped = np.clip(positions, 0, size - 1)
    low = np.floor(clamped).astype(np.int64)
    return _Blend(low, np.minimum(low + 1, size - 1), (clamped - low).astype(np.float32))


def _upsampled(size: int, factor: int, window: tuple[int, int]) -> tuple[NDArray[np.float64], _Blend]:
    """Centres of the upsampled pixels of a window, in prototype pixels, and their blends."""
    centres = (np.arange(*window, dtype=np.float64) + 0.5) / factor - 0.5
    return centres, _bilinear(centres, size)


def _nodes(size: int, factor: int, window: tuple[int, int], length: int) -> _Nodes:
    centres, blend = _upsampled(size, factor, window)
    fraction = np.abs(centres - np.round(centres))
    # Upsampled pixels away from a prototype's centre lie on the line between their neighbours.
    bends = fraction <= 0.5 / factor + 1e-9
    bends[[0, -1]] = True
    scale = len(centres) / length
    positions = (np.arange(len(centres), dtype=np.float64) + 0.5) / scale - 0.5
    return _Nodes(_Blend(blend.low[bends], blend.high[bends], blend.weight[bends]), positions[bends])


def _columns(size: int, factor: int, window: tuple[int, int], length: int) -> _Columns:
    _, upsampled = _upsampled(size, factor, window)
    count = window[1] - window[0]
    source = (np.arange(length, dtype=np.float64) + 0.5) * (count / length) - 0.5
    return _Columns(_bilinear(source, count), upsampled)


@dataclass(frozen=True)
class _Found:
    """One mask: its edges (column-major indices, entering and leaving alternately) and three areas."""

    index: int
    edges: NDArray[np.int64]
    outer: int
    inner: int


def _find_mask(
    index: int,
    plane: NDArray[np.float32],
    across: _Columns,
    down: _Nodes,
    columns: tuple[int, int],
    rows: tuple[int, int],
    height: int,
) -> _Found:
    first = max(int(down.positions.searchsorted(rows[0], "right")) - 1, 0)
    last = min(int(down.positions.searchsorted(rows[1] - 1, "left")), len(down.positions) - 1)
    profile = _profile(plane, across, down, columns, slice(first, last + 1))

    width, count = profile.shape
    inside = np.zeros((len(_LEVELS), width, count + 2), np.bool_)
    for level, value in enumerate(_LEVELS):
        np.greater(profile, value, out=inside[level, :, 1:-1])
    # A column starts and ends outside: one that is inside at the box's edge turns at that edge.
    turns = (inside[:, :, 1:] != inside[:, :, :-1]).ravel().nonzero()[0].astype(np.int32)
    line = turns // np.int32(count + 1)
    node = turns - line * np.int32(count + 1)
    second, third = line.searchsorted([width, 2 * width]).tolist()
    line[second:third] -= width
    line[third:] -= 2 * width

    before, after = np.maximum(node - 1, 0), np.minimum(node, count - 1)
    start = line * np.int32(count)
    flat = profile.ravel()
    value, following = flat[start + before], flat[start + after]
    positions = down.positions[first : last + 1]
    place = positions[before]
    step = positions[after] - place
    difference = value - following
    difference[difference == 0] = 1  # at the box's edges, whose row is set below
    share = value
    for level, part in enumerate((slice(0, second), slice(second, third), slice(third, None))):
        share[part] -= _LEVELS[level]
    leaving = share > 0
    share /= difference
    step *= share
    place += step
    row = np.floor(place)
    # The first row past a crossing: at it when leaving (a logit at the level is outside), behind it when entering.
    row += ~leaving | (row != place)
    row = row.astype(np.int32).clip(*rows)
    row[node == 0] = rows[0]
    row[node == count] = rows[1]

    edges = (line[second:third] + columns[0]).astype(np.int64) * height + row[second:third]
    return _Found(index, _without_empty_runs(edges), _area(row[:second]), _area(row[third:]))


def _profile(
    plane: NDArray[np.float32], across: _Columns, down: _Nodes, columns: tuple[int, int], nodes: slice
) -> NDArray[np.float32]:
    """Logits at the nodes of each image column in the box, float32 [columns, nodes]."""
    image = slice(*columns)
    left, right = int(across.image.low[columns[0]]), int(across.image.high[columns[1] - 1]) + 1
    low, high = across.upsampled.low[left:right], across.upsampled.high[left:right]
    base = int(low[0])
    roi = plane[base : int(high[-1]) + 1]
    at_nodes = _blend(roi.T, down.blend.low[nodes], down.blend.high[nodes], down.blend.weight[nodes]).T
    upsampled = _blend(at_nodes, low - base, high - base, across.upsampled.weight[left:right])
    return _blend(
        upsampled, across.image.low[image] - left, across.image.high[image] - left, across.image.weight[image]
    )


def _area(row: NDArray[np.int32] | NDArray[np.int64]) -> int:
    """Pixels between turns that enter and leave alternately down the columns."""
    return int(row[1::2].sum()) - int(row[0::2].sum())


def _blend(
    rows: NDArray[np.float32], low: NDArray[np.int64], high: NDArray[np.int64], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    lower = rows.take(low, axis=0)
    step = rows.take(high, axis=0)
    step -= lower
    step *= weight[:, None]
    step += lower
    return step


def _without_empty_runs(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending edges with those at one place cancelled in pairs: runs shorter than a pixel, and the seams
    of runs that go on in the next column.
    """
    first = np.empty(len(edges), np.bool_)
    first[:1] = True
    np.not_equal(edges[1:], edges[:-1], out=first[1:])
    if first.all():
        return edges
    places = first.nonzero()[0]
    count = np.diff(places, append=len(edges))
    odd: NDArray[np.int64] = edges[places[count % 2 == 1]]
    return odd


def _run_lengths(edges: NDArray[np.int64], pixels: int) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = np.diff(edges, prepend=0, append=pixels)
    return lengths[:-1] if lengths[-1] == 0 else lengths
