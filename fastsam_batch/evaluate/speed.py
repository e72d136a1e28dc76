"""Milliseconds an image against the number of prompts: the network runs once, prompts read stored masks."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.evaluate.stored import stored_masks
from fastsam_batch.export.images import ExportImage
from fastsam_batch.images import ImageError
from fastsam_batch.masks.select import Point
from fastsam_batch.storage import redact

GRIDS = {"16 x 16": 16, "32 x 32": 32, "64 x 64": 64}
FEW = (1, 10, 100)
Segment = Callable[[NDArray[np.uint8]], object]


def prompt_points(size_hw: tuple[int, int]) -> dict[str, list[Point]]:
    """Point prompts by their number: 1, 10 and 100 at random places (always the same), and grids of cell middles."""
    height, width = size_hw
    random = np.random.default_rng(0).uniform(size=(max(FEW), 2)) * (width, height)
    points = {str(count): [(float(x), float(y)) for x, y in random[:count]] for count in FEW}
    for name, side in GRIDS.items():
        middles = (np.arange(side) + 0.5) / side
        points[name] = [(float(x), float(y)) for y in middles * height for x in middles * width]
    return points


def speed_figures(images: Iterable[ExportImage], limit: int, segment: Segment | None = None) -> dict[str, Any]:
    """Median milliseconds an image for each number of prompts, over at most `limit` images.

    `answer_ms`: stored masks, not parsed yet, answer every point with the masks around it. `model_ms`: `segment`
    turns a photograph's pixels into masks, with one image before that is not counted. `peak_mib`: the most memory
    this process has held. Raises InputError where there is no image.
    """
    answers: dict[str, list[float]] = {}
    model: list[float] = []
    counted = masks = 0
    for image in images:
        if counted == limit:
            break
        counted += 1
        masks += len(image.masks)
        if segment is not None:
            pixels = _pixels(image)
            if counted == 1:
                segment(pixels)
            began = time.perf_counter()
            segment(pixels)
            model.append(1000 * (time.perf_counter() - began))
        for name, points in prompt_points((image.height, image.width)).items():
            began = time.perf_counter()
            stored = stored_masks(image)
            for point in points:
                stored.at(point)
            answers.setdefault(name, []).append(1000 * (time.perf_counter() - began))
    if not counted:
        raise InputError("--corpus holds no image that was segmented; there is nothing to time")
    model_ms = float(np.median(model)) if model else None
    rows = []
    for name, times in answers.items():
        answer_ms = float(np.median(times))
        total = None if model_ms is None else model_ms + answer_ms
        rows.append({"prompts": name, "answer_ms": answer_ms, "total_ms": total})
    return {
        "images": counted,
        "masks_per_image": masks / counted,
        "model_ms": model_ms,
        "prompts": rows,
        "peak_mib": peak_mib(),
    }


def _pixels(image: ExportImage) -> NDArray[np.uint8]:
    try:
        return image.photographs.pixels(image.uri)
    except OutageError:
        raise
    except (OSError, ImageError) as error:
        raise InputError(
            f"cannot read the photograph of {image.image_id!r}, {redact(image.uri)} ({error}); bring it back, or leave "
            "out --segmenter"
        ) from error


def peak_mib() -> float:
    """The most memory that this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # macOS counts bytes, Linux KiB
