"""Masks drawn on photographs: smooth outlines, translucent fills, colours that differ between neighbours.

A mask is decoded only where it is seen, one at a time, and drawn at the size it is shown at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastsam_batch.masks.rle import Rle, decode_in_box

RGB = tuple[int, int, int]
PALETTE: tuple[RGB, ...] = (
    (255, 82, 96),
    (56, 176, 255),
    (255, 204, 0),
    (160, 108, 255),
    (60, 206, 110),
    (255, 140, 40),
    (20, 210, 210),
    (255, 95, 190),
    (176, 224, 60),
    (92, 120, 255),
    (255, 160, 140),
    (214, 90, 240),
)
# Edges are drawn at this multiple of the shown size and averaged down, which makes them smooth.
_SUPERSAMPLING = 2
_FILL_OPACITY = 0.4
_CASING_OPACITY = 0.55
_COVERED_LINES = 0.75
# Shown pixels a cell of the grid on which colours are chosen.
_CELL = 6
_CLEAR_DIFFERENCE = 60  # in CIELAB


class BoxedMask(NamedTuple):
    """A mask and its tight box (x, y, width, height) in pixels of its image."""

    rle: Rle
    bbox_xywh: Sequence[float]


@dataclass(frozen=True)
class View:
    """A window of an image and the size it is shown at.

    `window_xywh` in pixels of the image, inside it; `size_wh` (width, height) in shown pixels.
    """

    window_xywh: tuple[float, float, float, float]
    size_wh: tuple[int, int]

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Shown pixels a pixel of the image, along x and y."""
        return self.size_wh[0] / self.window_xywh[2], self.size_wh[1] / self.window_xywh[3]

    def in_cells(self, side: int) -> View:
        """The same window on a coarse grid: a cell is about `side` shown pixels wide and high."""
        width, height = self.size_wh
        return View(self.window_xywh, (max(width // side, 1), max(height // side, 1)))


@dataclass(frozen=True)
class Layer:
    """A mask as it is drawn: opacities in [0, 1], float32 [h, w], with their corner on the canvas.

    `fill` covers the mask, `line` runs along its edge, `casing` is a wider line to lie below it.
    """

    left: int
    top: int
    fill: NDArray[np.float32]
    line: NDArray[np.float32]
    casing: NDArray[np.float32]

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the layer covers."""
        height, width = self.fill.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def show(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """The window of an image uint8 RGB [H, W, 3] at its shown size."""
    x, y, width, height = view.window_xywh
    left, top = math.floor(x), math.floor(y)
    right, bottom = math.ceil(x + width), math.ceil(y + height)
    part = Image.fromarray(image[top:bottom, left:right])
    box = (x - left, y - top, x - left + width, y - top + height)
    return np.array(part.resize(view.size_wh, Image.Resampling.LANCZOS, box=box))


def draw_mask(mask: BoxedMask, view: View, line_width: float = 2.0, casing_width: float = 4.0) -> Layer | None:
    """A mask as a layer of the view's canvas, line widths in shown pixels; None where it is out of sight.

    An edge of the mask on the image's border gets no line. Raises ValueError for a broken RLE.
    """
    region = _region(mask, view, math.ceil(casing_width) + 1)
    if region is None:
        return None
    inside = _resampled(mask, view, region, _SUPERSAMPLING)
    if not inside.any():
        return None
    distance = _distance_to_edge(inside) / _SUPERSAMPLING
    left, top, right, bottom = region
    shape = (right - left, bottom - top)
    return Layer(
        left,
        top,
        fill=_averaged(inside, shape),
        line=_averaged(distance <= line_width / 2, shape),
        casing=_averaged(distance <= casing_width / 2, shape),
    )


def paint_all(image: NDArray[np.uint8], masks: Sequence[BoxedMask], view: View) -> NDArray[np.uint8]:
    """An image uint8 RGB [H, W, 3] at its shown size with all masks over it, in the order given.

    Put large masks first: a pixel takes the colour of the last mask over it, so that nested masks keep
    clean colours, which are `distinct_colours`. Holds one mask at a time.
    """
    canvas = show(image, view).astype(np.float32)
    filled = canvas.copy()
    lines = np.zeros((*canvas.shape[:2], 4), np.float32)  # opacity last, colours multiplied by it
    for mask, colour in zip(masks, distinct_colours(image, masks, view), strict=True):
        layer = draw_mask(mask, view)
        if layer is None:
            continue
        tint = canvas[layer.place] + _FILL_OPACITY * (np.asarray(colour, np.float32) - canvas[layer.place])
        cover = layer.fill[..., None]
        filled[layer.place] += cover * (tint - filled[layer.place])
        # A mask covers most of the lines below it, which would cut it into pieces.
        lines[layer.place] *= 1 - _COVERED_LINES * cover
        _lay(lines[layer.place], layer.casing * _CASING_OPACITY, (16, 18, 24, 1))
        _lay(lines[layer.place], layer.line, (*_brighter(colour), 1))
    return _as_pixels(filled * (1 - lines[..., 3:]) + lines[..., :3])


def distinct_colours(image: NDArray[np.uint8], masks: Sequence[BoxedMask], view: View) -> list[RGB]:
    """A colour for each mask, as unlike as the palette allows to those of the masks before it that touch or overlap it,
    and to what the mask covers in the image uint8 RGB [H, W, 3].

    Masks touch where they lie within a few shown pixels of each other. Holds one mask at a time. Raises ValueError for
    a broken RLE.
    """
    if not masks:
        return []
    coarse = view.in_cells(_CELL)
    pixels = _lab(show(image, coarse))
    palette = _lab(np.asarray([PALETTE], np.uint8))[0]
    unlike = [np.linalg.norm(palette - colour, axis=1) for colour in palette]
    # A bit for each colour that lies on a cell or beside it: all that later masks ask about earlier ones.
    near = np.zeros(pixels.shape[:2], np.uint16)
    usage = np.zeros(len(PALETTE), np.int64)
    chosen: list[int] = []
    for mask in masks:
        cells = _cells(mask, coarse)
        reach = cv2.dilate(cells.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
        beside = int(np.bitwise_or.reduce(near[reach], initial=0))
        distances = [unlike[colour] for colour in range(len(PALETTE)) if beside >> colour & 1]
        if cells.any():
            distances.append(_clarity(palette, pixels[cells].mean(axis=0)))
        # A mask smaller than a cell may have neither neighbours nor anything below it.
        contrast = np.min([np.full(len(palette), _CLEAR_DIFFERENCE), *distances], axis=0)
        choice = int(np.lexsort((usage, -contrast))[0])  # the less used of equally clear ones
        near[reach] |= np.uint16(1 << choice)
        usage[choice] += 1
        chosen.append(choice)
    return [PALETTE[index] for index in chosen]


def spotlight(image: NDArray[np.uint8], mask: BoxedMask, view: View, colour: RGB) -> NDArray[np.uint8]:
    """A view of an image with one mask as it is, all else dim and nearly grey, its edge cased in white."""
    canvas = show(image, view).astype(np.float32)
    grey = canvas @ np.array([[0.299], [0.587], [0.114]], np.float32)
    painted = np.asarray((0.3 * canvas + 0.7 * grey) * 0.5 + 8, np.float32)
    layer = draw_mask(mask, view, line_width=3.2, casing_width=6.0)
    if layer is not None:
        region = painted[layer.place]
        region += layer.fill[..., None] * (canvas[layer.place] - region)
        _lay(region, layer.casing, (255, 255, 255))
        _lay(region, layer.line, colour)
    return _as_pixels(painted)


def _region(mask: BoxedMask, view: View, margin: int) -> tuple[int, int, int, int] | None:
    """Canvas pixels (left, top, right, bottom) that the mask and a margin fall on; None for none."""
    (scale_x, scale_y), (window_x, window_y, *_) = view.scale_xy, view.window_xywh
    x, y, width, height = mask.bbox_xywh
    left = max(math.floor((x - window_x) * scale_x) - margin, 0)
    top = max(math.floor((y - window_y) * scale_y) - margin, 0)
    right = min(math.ceil((x + width - window_x) * scale_x) + margin, view.size_wh[0])
    bottom = min(math.ceil((y + height - window_y) * scale_y) + margin, view.size_wh[1])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _resampled(mask: BoxedMask, view: View, region: tuple[int, int, int, int], times: int) -> NDArray[np.bool_]:
    """The mask on a region of the canvas, `times` its shown size, with its staircase of pixels smoothed."""
    (scale_x, scale_y), (window_x, window_y, *_) = view.scale_xy, view.window_xywh
    x0, x1 = window_x + region[0] / scale_x, window_x + region[2] / scale_x
    y0, y1 = window_y + region[1] / scale_y, window_y + region[3] / scale_y
    first_x, first_y, end_x, end_y = (
        math.floor(x0) - 1,
        math.floor(y0) - 1,
        math.ceil(x1) + 1,
        math.ceil(y1) + 1,
    )
    image_height, image_width = mask.rle.size
    left, top = max(first_x, 0), max(first_y, 0)
    right, bottom = min(end_x, image_width), min(end_y, image_height)
    pixels = decode_in_box(mask.rle, (left, top, right - left, bottom - top))
    # Beyond the image's border the mask goes on as it was there: no edge, and so no line.
    pixels = np.pad(pixels, ((top - first_y, end_y - bottom), (left - first_x, end_x - right)), mode="edge")

    size = ((region[2] - region[0]) * times, (region[3] - region[1]) * times)
    picture = Image.fromarray(pixels.view(np.uint8) * np.uint8(255))
    box = (x0 - first_x, y0 - first_y, x1 - first_x, y1 - first_y)
    resampled = np.asarray(picture.resize(size, Image.Resampling.BILINEAR, box=box))
    enlarged = max(scale_x, scale_y) * times
    if enlarged > 1:
        resampled = cv2.GaussianBlur(resampled, (0, 0), 0.6 * enlarged, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(resampled >= 128)


def _distance_to_edge(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Pixels from each pixel's centre to the nearest edge, float32 [h, w]."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    at_edge = cv2.morphologyEx(inside.view(np.uint8), cv2.MORPH_GRADIENT, cross)  # a pixel on each side
    away = cv2.distanceTransform(1 - at_edge, cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(away + 0.5, np.float32)


def _averaged(flags: NDArray[np.bool_], size_wh: tuple[int, int]) -> NDArray[np.float32]:
    values = flags.astype(np.float32)
    return np.asarray(cv2.resize(values, size_wh, interpolation=cv2.INTER_AREA), np.float32)


def _cells(mask: BoxedMask, coarse: View) -> NDArray[np.bool_]:
    """The cells of a coarse view that a mask covers, bool [h, w]."""
    cells = np.zeros(coarse.size_wh[::-1], np.bool_)
    region = _region(mask, coarse, margin=1)
    if region is not None:
        left, top, right, bottom = region
        cells[top:bottom, left:right] = _resampled(mask, coarse, region, 1)
    return cells


def _lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIELAB, float32 [H, W, 3], of RGB."""
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)


def _clarity(palette: NDArray[np.float32], below: NDArray[np.float32]) -> NDArray[np.float32]:
    """How clearly each colour [k, 3] shows when laid over `below` [3], both CIELAB: new, and not greyed."""
    laid = below + _FILL_OPACITY * (palette - below)
    difference = np.linalg.norm(palette - below, axis=1)
    chroma = np.linalg.norm(laid[:, 1:], axis=1)
    return np.asarray(np.minimum(1.3 * difference, 3 * chroma), np.float32)


def _lay(region: NDArray[np.float32], opacity: NDArray[np.float32], colour: tuple[int, ...]) -> None:
    region += opacity[..., None] * (np.asarray(colour, np.float32) - region)


def _brighter(colour: RGB) -> RGB:
    red, green, blue = (round(255 - (255 - value) * 0.75) for value in colour)
    return red, green, blue


def _as_pixels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
