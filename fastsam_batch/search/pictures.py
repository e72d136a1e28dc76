"""Photographs of a corpus as pictures: read anew, with one mask lit or all of them drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.images import ImageError
from fastsam_batch.masks.draw import RGB, BoxedMask, View, paint_all, spotlight
from fastsam_batch.masks.labels import write_numbers
from fastsam_batch.masks.rle import Rle
from fastsam_batch.storage import redact

ReadPixels = Callable[[str], NDArray[np.uint8]]

TILE_WH = (512, 384)
PHOTOGRAPH_SIDE = 1200
ACCENT: RGB = (255, 45, 110)
# The tile shows this much more than the mask's box on each side, and never less than this share of the image.
_CONTEXT = 0.35
_LEAST_SHARE = 0.22


def read_photograph(image: dict[str, Any], read: ReadPixels) -> NDArray[np.uint8]:
    """The photograph of an image's row (schemas/images.v1.json), uint8 RGB [H, W, 3], as `read` gives it.

    Raises InputError where it is gone, cannot be read, or is no longer the one that was segmented, OutageError where
    its store fails.
    """
    name = f"the photograph of {image['image_id']!r}"
    try:
        pixels = read(image["uri"])
    except FileNotFoundError as error:
        raise InputError(f"{name} is no longer at {redact(image['uri'])}; put it back to see it") from error
    except OutageError as error:
        raise OutageError(f"{name} at {redact(image['uri'])} cannot be read: {error}") from error
    except (OSError, InputError, ImageError) as error:
        raise InputError(f"{name} at {redact(image['uri'])} cannot be read: {error}") from error
    height, width = pixels.shape[:2]
    if (height, width) != (image["height"], image["width"]):
        raise InputError(
            f"{name} has changed since it was segmented: it is {width} x {height} pixels and was "
            f"{image['width']} x {image['height']}; put the old one back to see it"
        )
    return pixels


def hit_picture(pixels: NDArray[np.uint8], mask: dict[str, Any]) -> Image.Image:
    """A tile of TILE_WH around one mask (a row of masks, its `bbox` and `rle`): the mask lit, all else dim."""
    window = window_around(mask["bbox"], pixels.shape[:2])
    scale = min(TILE_WH[0] / window[2], TILE_WH[1] / window[3])
    view = View(window, scaled(window[2], window[3], scale))
    return _on_tile(Image.fromarray(spotlight(pixels, boxed_mask(mask), view, ACCENT)))


def photograph_picture(pixels: NDArray[np.uint8], masks: Sequence[dict[str, Any]]) -> Image.Image:
    """A photograph with its masks (rows of masks, their `mask_index`, `bbox`, `area` and `rle`) drawn over it,
    large ones first, and their numbers; PHOTOGRAPH_SIDE on its long side, but no more than twice its own size.
    """
    view = whole_view(pixels.shape[:2], PHOTOGRAPH_SIDE, 2.0)
    by_area = sorted(masks, key=lambda mask: -mask["area"])
    boxed = [boxed_mask(mask) for mask in by_area]
    numbers = [mask["mask_index"] for mask in by_area]
    return Image.fromarray(write_numbers(paint_all(pixels, boxed, view), boxed, numbers, view))


def whole_view(image_hw: tuple[int, int], side: int, enlarged_at_most: float = 1.0) -> View:
    """All of an image, shown with `side` pixels on its long side, but no more than so many times its own size."""
    height, width = image_hw
    return View((0, 0, width, height), scaled(width, height, min(side / max(height, width), enlarged_at_most)))


def scaled(width: float, height: float, scale: float) -> tuple[int, int]:
    """Width and height, scaled, in whole pixels, of which there is one at least."""
    return max(round(width * scale), 1), max(round(height * scale), 1)


def boxed_mask(mask: dict[str, Any]) -> BoxedMask:
    """A row of masks as `masks.draw` takes it."""
    return BoxedMask(Rle.from_coco(mask["rle"]), mask["bbox"])


def jpeg_bytes(picture: Image.Image, quality: int) -> bytes:
    """A picture as a progressive JPEG file."""
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality, optimize=True, progressive=True)
    return sink.getvalue()


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    return sink.getvalue()


def window_around(bbox_xywh: Sequence[float], image_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """Window (x, y, width, height) around a box, with context, inside the image; both in its pixels.

    It has the tile's shape, unless the box fits into no such window of the image.
    """
    height, width = image_hw
    x, y, box_width, box_height = bbox_xywh
    shape = TILE_WH[0] / TILE_WH[1]
    largest = min(width, height * shape)
    wide = max(box_width, box_height * shape, _LEAST_SHARE * largest) * (1 + 2 * _CONTEXT)
    if max(box_width, box_height * shape) <= largest:
        wide = min(wide, largest)
    window_width, window_height = min(wide, width), min(wide / shape, height)
    left = min(max(x + box_width / 2 - window_width / 2, 0), width - window_width)
    top = min(max(y + box_height / 2 - window_height / 2, 0), height - window_height)
    return left, top, window_width, window_height


def _on_tile(picture: Image.Image) -> Image.Image:
    """The picture on a tile; where it is narrower, a blurred copy fills the rest."""
    if picture.size == TILE_WH:
        return picture
    tile = ImageOps.fit(picture, TILE_WH).filter(ImageFilter.GaussianBlur(28)).point(lambda value: value * 0.6)
    tile.paste(picture, ((TILE_WH[0] - picture.width) // 2, (TILE_WH[1] - picture.height) // 2))
    return tile
