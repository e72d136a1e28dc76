"""Photographs in a bucket, in every form of input."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from photographs import photographs
from PIL import Image

IMAGES, UNIT_SIZE = 12, 3
SHARDS = 64  # of one image each, in the input `shards`
FILES = 2  # tars, or Parquet files, of the others


def write_inputs(fs: Any, bucket: str) -> None:
    """A folder, tars, Parquet files, and many tars of one image: `folder`, `tar`, `parquet`, `shards`."""
    images = dict(small_photographs())
    for name, data in images.items():
        fs.pipe_file(f"{bucket}/folder/{name}", data)
    names, each = sorted(images), IMAGES // FILES
    for number in range(FILES):
        some = names[number * each : (number + 1) * each]
        fs.pipe_file(f"{bucket}/tar/{number}.tar", tar_of({name: images[name] for name in some}))
        buffer = io.BytesIO()
        pq.write_table(pa.table({"image_id": some, "bytes": [images[name] for name in some]}), buffer)
        fs.pipe_file(f"{bucket}/parquet/{number}.parquet", buffer.getvalue())
    for number in range(SHARDS):
        fs.pipe_file(f"{bucket}/shards/{number:02d}.tar", tar_of({"image": images[names[number % IMAGES]]}))


def small_photographs() -> list[tuple[str, bytes]]:
    """PNG and JPEG files, longer sides 160 to 320 px, all different."""
    found = []
    for number, (name, pixels) in enumerate(list(photographs().items()) * 2):
        image = Image.fromarray(pixels)
        side = 160 + 160 * number // (IMAGES - 1)
        image.thumbnail((side, side))
        kind = "png" if number % 3 else "jpeg"
        buffer = io.BytesIO()
        image.save(buffer, kind)
        found.append((f"{number:02d}-{name}.{kind}", buffer.getvalue()))
    return found


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar archive of the files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
