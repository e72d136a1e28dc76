"""Box arithmetic: frames and letterbox geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Letterbox:
    """How an image lies in the network's input: resized to `resized_hw`, then padded to `input_hw`.

    `top` and `left` are the padding in input pixels. Convention: Ultralytics `data/augment.py` LetterBox
    with auto=True, centred.
    """

    image_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    input_hw: tuple[int, int]
    top: int
    left: int


def letterbox_of(image_hw: tuple[int, int], imgsz: int, stride: int = 32) -> Letterbox:
    """The letterbox of an image: long side `imgsz`, sides padded to multiples of `stride`, no more."""
    height, width = image_hw
    ratio = min(imgsz / height, imgsz / width)
    resized_hw = max(round(height * ratio), 1), max(round(width * ratio), 1)
    pad_h, pad_w = ((imgsz - resized_hw[0]) % stride) / 2, ((imgsz - resized_hw[1]) % stride) / 2
    top, left = round(pad_h - 0.1), round(pad_w - 0.1)
    bottom, right = round(pad_h + 0.1), round(pad_w + 0.1)
    input_hw = resized_hw[0] + top + bottom, resized_hw[1] + left + right
    return Letterbox(image_hw, resized_hw, input_hw, top, left)


def content_of(input_hw: tuple[int, int], image_hw: tuple[int, int]) -> tuple[tuple[int, int], int, int]:
    """Height and width of what an input shows of its image, and the rows and columns of padding before it.

    Recovered from the two shapes alone, as Ultralytics `utils/ops.py` scale_boxes does: a side can differ by a pixel
    from what was resized.
    """
    gain = min(input_hw[0] / image_hw[0], input_hw[1] / image_hw[1])
    height, width = max(round(image_hw[0] * gain), 1), max(round(image_hw[1] * gain), 1)
    return (height, width), round((input_hw[0] - height) / 2 - 0.1), round((input_hw[1] - width) / 2 - 0.1)


def boxes_to_image(boxes_xyxy: NDArray[np.float32], letterbox: Letterbox) -> NDArray[np.float32]:
    """Boxes float32 [n, 4] from input pixels to image pixels, clipped to the image.

    The image's place is `content_of` the two shapes, as in the mask stage, so that boxes and masks share one frame.
    """
    height, width = letterbox.image_hw
    (content_h, content_w), top, left = content_of(letterbox.input_hw, letterbox.image_hw)
    shift = np.array([left, top] * 2, np.float32)
    gains = np.array([content_w / width, content_h / height] * 2, np.float32)
    limit = np.array([width, height] * 2, np.float32)
    return np.asarray(np.clip((boxes_xyxy - shift) / gains, 0, limit), np.float32)


def pixel_range(low: float, high: float, size: int) -> tuple[int, int]:
    """First and end (exclusive) of the whole pixels p with low <= p < high within [0, size)."""
    return min(max(math.ceil(low), 0), size), min(max(math.ceil(high), 0), size)
