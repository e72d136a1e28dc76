"""Photographs for benchmarks, made of those that ship in installed packages."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from fastsam_batch.sources import open_source
from fastsam_batch.sources.base import Planned


def make_photographs(folder: Path, count: int, long_side: int | None = None) -> list[Path]:
    """JPEG files of the demo photographs, repeated under new names, scaled to a long side where one is asked for."""
    folder.mkdir()
    demo = open_source("demo:")
    (unit,) = demo.read(next(iter(demo.plan(Planned(), 100, None))), ())
    paths = []
    for number in range(count):
        with Image.open(io.BytesIO(unit.images[number % len(unit.images)].data or b"")) as photograph:
            rgb = photograph.convert("RGB")
        if long_side:
            scale = long_side / max(rgb.size)
            rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BICUBIC)
        paths.append(folder / f"{number:05d}.jpg")
        rgb.save(paths[-1], quality=92)
    return paths
