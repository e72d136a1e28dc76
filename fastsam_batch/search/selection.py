"""A selection as a file: JSON with the union's RLE, or the photograph with the union lit."""

from __future__ import annotations

import json
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fastsam_batch import storage
from fastsam_batch.masks.draw import RGB, BoxedMask, spotlight
from fastsam_batch.masks.rle import foreground_runs, tight_box
from fastsam_batch.search.pictures import ACCENT, ReadPixels, png_bytes, read_photograph, whole_view
from fastsam_batch.search.prompts import ImageSelection, Prompts

FORMATS = (".json", ".png")
_LONG_SIDE = 1600
_ENLARGED_AT_MOST = 2.0
_FOREGROUND: RGB = (32, 190, 90)
_BACKGROUND: RGB = (225, 40, 50)
_BOX: RGB = (255, 204, 0)
_CASING: RGB = (255, 255, 255)
_INK: RGB = (16, 18, 24)


def write_selection(uri: storage.Uri, selection: ImageSelection, read: ReadPixels) -> None:
    """Write a selection whole or not at all, as the name's ending says: `.json` or `.png`.

    The picture is the photograph, which `read` gives by its `uri`, with the union lit and the prompts drawn.
    Raises InputError for another ending, a photograph that is gone or changed, a place that cannot be written.
    """
    storage.check_ending(uri, FORMATS)
    if storage.ends_in(uri, ".json"):
        data = f"{json.dumps(selection.to_json(), ensure_ascii=False)}\n".encode()
    else:
        data = selection_png(selection, read)
    storage.write_result(uri, data)


def selection_png(selection: ImageSelection, read: ReadPixels) -> bytes:
    """`selection_picture` as a PNG file."""
    return png_bytes(selection_picture(selection, read))


def selection_picture(selection: ImageSelection, read: ReadPixels) -> Image.Image:
    """The photograph with the union lit, foreground points (+), background points (-) and numbered boxes.

    RGB, 1600 pixels on its long side, but no more than twice its own size. Raises InputError for a photograph
    that cannot be read or is no longer the one that was segmented.
    """
    pixels = read_photograph(selection.image, read)
    view = whole_view(selection.rle.size, _LONG_SIDE, _ENLARGED_AT_MOST)
    starts, ends = foreground_runs(selection.rle)
    box = tight_box(starts, ends, selection.rle.size[0]) if selection.area else (0, 0, 0, 0)
    picture = Image.fromarray(spotlight(pixels, BoxedMask(selection.rle, box), view, ACCENT))
    _draw_prompts(picture, selection.prompts, np.asarray(view.scale_xy))
    return picture


def _draw_prompts(picture: Image.Image, prompts: Prompts, scale_xy: np.ndarray) -> None:
    draw = ImageDraw.Draw(picture)
    for number, box in enumerate(prompts.boxes, start=1):
        corners = np.clip(np.asarray(box).reshape(2, 2) * scale_xy, 0, np.asarray(picture.size) - 1)
        left, top, right, bottom = corners.reshape(-1).tolist()
        draw.rectangle((left, top, right, bottom), outline=_INK, width=5)
        if right - left > 4 and bottom - top > 4:
            draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=_BOX, width=3)
        if len(prompts.boxes) > 1:
            _label(draw, (left, top), str(number))
    for points, colour, foreground in (
        (prompts.foreground, _FOREGROUND, True),
        (prompts.background, _BACKGROUND, False),
    ):
        for point in points:
            x, y = ((np.floor(point) + 0.5) * scale_xy).tolist()
            draw.ellipse(_square(x, y, 11), fill=_CASING, outline=_INK)
            draw.ellipse(_square(x, y, 8), fill=colour)
            draw.line((x - 5, y, x + 5, y), fill=_CASING, width=3)
            if foreground:
                draw.line((x, y - 5, x, y + 5), fill=_CASING, width=3)


def _label(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str) -> None:
    font = ImageFont.load_default(18)
    x, y = corner
    draw.rectangle((x, y, x + math.ceil(draw.textlength(text, font)) + 12, y + 26), fill=_BOX)
    draw.text((x + 6, y + 2), text, font=font, fill=_INK)


def _square(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius
