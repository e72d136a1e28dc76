"""Mask stage: prototypes and coefficients to COCO runs, without a dense mask at image resolution.

A mask is the sign of a linear combination of prototypes, upsampled bilinearly to the image and cropped
to its box (YOLACT, Bolya et al. 2019, section 3; Ultralytics `utils/ops.py` process_mask_native, whose
geometry is kept exactly). Down one image column a bilinear upsampling is piecewise linear between few
nodes, so its sign changes are found between nodes in closed form: the work is columns x nodes, not
pixels, and what comes out are run starts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.masks.boxes import pixel_range
from fastsam_batch.masks.rle import pack_counts
from fastsam_batch.masks.upsampling import Columns, Nodes, upsampling

STABILITY_OFFSET = 1.0  # in logits, as segment-anything `utils/amg.py` calculate_stability_score
LEVELS = (-STABILITY_OFFSET, 0.0, STABILITY_OFFSET)
OUTSIDE = -1e30  # below every level, and finite
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
    down, across = upsampling((proto_h, proto_w), image_hw)
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
        areas=np.array([mask.area for mask in found], np.int64),
        bboxes_xywh=np.array([mask.box_xywh for mask in found], np.float32).reshape(-1, 4),
        stability=np.array([mask.inner / mask.outer for mask in found], np.float32),
    )


@dataclass(frozen=True)
class _Found:
    """One mask: its edges (column-major indices, entering and leaving alternately), tight box, and areas at the
    three levels.
    """

    index: int
    edges: NDArray[np.int64]
    box_xywh: tuple[int, int, int, int]
    area: int
    outer: int
    inner: int


def _find_mask(
    index: int,
    plane: NDArray[np.float32],
    across: Columns,
    down: Nodes,
    columns: tuple[int, int],
    rows: tuple[int, int],
    height: int,
) -> _Found:
    first = max(int(down.positions.searchsorted(rows[0], "right")) - 1, 0)
    last = min(int(down.positions.searchsorted(rows[1] - 1, "left")), len(down.positions) - 1)
    positions = down.positions[first : last + 1]
    # From a node to the next: where it is, and how far the next. From the sentinel into the column, the mask starts
    # at the box's first row (one past this place); from the last node out of it, it ends at the box's end.
    place = np.concatenate([[rows[0] - 1], positions[:-1], [rows[1]]])
    step = np.concatenate([[0], positions[1:] - positions[:-1], [0]])
    profile = _profile(plane, across, down, columns, slice(first, last + 1))
    outer, level, inner = (_crossings(profile, value, place, step, rows) for value in LEVELS)

    line = level.line + columns[0]
    entering, leaving = level.rows[0::2], level.rows[1::2]
    filled = (entering < leaving).nonzero()[0]  # the others lie between two rows of pixels
    if not len(filled):
        return _Found(index, np.zeros(0, np.int64), (0, 0, 0, 0), 0, 0, 0)
    left, right = int(line[2 * filled[0]]), int(line[2 * filled[-1]]) + 1
    top, bottom = int(entering[filled].min()), int(leaving[filled].max())
    return _Found(
        index=index,
        edges=_without_empty_runs(line * height + level.rows),
        box_xywh=(left, top, right - left, bottom - top),
        area=level.area,
        outer=outer.area,
        inner=inner.area,
    )


@dataclass(frozen=True)
class _Crossings:
    """Where columns cross a level: column within the box and first row past it, entering and leaving alternately."""

    line: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def area(self) -> int:
        """Pixels above the level."""
        return int(self.rows[1::2].sum()) - int(self.rows[0::2].sum())


def _crossings(
    profile: NDArray[np.float32],
    level: float,
    place: NDArray[np.float64],
    step: NDArray[np.float64],
    rows: tuple[int, int],
) -> _Crossings:
    above = profile > np.float32(level)
    turns = (above[1:] != above[:-1]).nonzero()[0]
    line = turns // len(place)
    node = turns - line * len(place)
    value = profile.take(turns)
    share = value - profile.take(turns + 1)  # they lie on both sides of the level, so it is never 0
    value -= np.float32(level)
    np.divide(value, share, out=share)
    crossing = step.take(node)
    crossing *= share
    crossing += place.take(node)
    # The first row past it: behind it when entering, at it when leaving (a logit at the level is outside).
    entering, leaving = crossing[0::2], crossing[1::2]
    np.floor(entering, out=entering)
    entering += 1
    np.ceil(leaving, out=leaving)
    return _Crossings(line, np.clip(crossing, *rows, out=crossing).astype(np.int64))


def _profile(
    plane: NDArray[np.float32], across: Columns, down: Nodes, columns: tuple[int, int], nodes: slice
) -> NDArray[np.float32]:
    """Logits at the nodes of each image column in the box, columns one after the other, float32
    [columns * (1 + nodes) + 1]. A sentinel that is outside any mask stands before each column and after the last.
    """
    image = slice(*columns)
    left, right = int(across.image.low[columns[0]]), int(across.image.high[columns[1] - 1]) + 1
    low, high = across.upsampled.low[left:right], across.upsampled.high[left:right]
    base = int(low[0])
    roi = plane[base : int(high[-1]) + 1]
    at_nodes = _blend(roi.T, down.blend.low[nodes], down.blend.high[nodes], down.blend.weight[nodes]).T
    upsampled = _blend(at_nodes, low - base, high - base, across.upsampled.weight[left:right])

    lower = upsampled.take(across.image.low[image] - left, axis=0)
    rise = upsampled.take(across.image.high[image] - left, axis=0)
    rise -= lower
    rise *= across.image.weight[image, None]
    width, count = lower.shape
    profile = np.empty(width * (1 + count) + 1, np.float32)
    profile[:: 1 + count] = OUTSIDE
    np.add(lower, rise, out=profile[:-1].reshape(width, 1 + count)[:, 1:])
    return profile


def _blend(
    rows: NDArray[np.float32], low: NDArray[np.int64], high: NDArray[np.int64], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    lower = rows.take(low, axis=0)
    if not weight.any():  # prototypes that need no upsampling before the image's own
        return lower
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
    lengths = np.empty(len(edges) + 1, np.int64)
    lengths[0], lengths[-1] = edges[0], pixels - edges[-1]
    np.subtract(edges[1:], edges[:-1], out=lengths[1:-1])
    return lengths[:-1] if lengths[-1] == 0 else lengths
