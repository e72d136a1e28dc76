"""The same photographs as every kind of input, and what a source makes of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Collection, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fastsam_batch.corpus.plan import planned
from fastsam_batch.sources.base import EncodedImage, PlanRow, Source, UnitBytes
from fastsam_batch.sources.demo import PHOTOGRAPHS, find


def photographs() -> dict[str, bytes]:
    """Names and bytes of the demo's photographs, one in a subfolder."""
    names = {photograph.name: find(photograph).read_bytes() for photograph in PHOTOGRAPHS}
    return {(f"more/{name}" if name.startswith("c") else name): data for name, data in names.items()}


def small_image(number: int) -> bytes:
    """A PNG of its own colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def small_images(count: int) -> dict[str, bytes]:
    return {f"{number:04d}.png": small_image(number) for number in range(count)}


def write_folder(folder: Path, images: dict[str, bytes]) -> Path:
    for name, data in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def tar_bytes(members: Iterable[tuple[str, bytes]], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members, "w:gz" if path.suffix in (".gz", ".tgz") else "w"))
    return path


def write_parquet(path: Path, columns: dict[str, list], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def plan(source: Source, before: Iterable[PlanRow] = (), unit_size: int = 4, limit: int | None = None) -> list[PlanRow]:
    """New rows, planned as the job plans them: from the rows stored before."""
    return list(source.plan(planned(before), unit_size, limit))


def units(source: Source, rows: Iterable[PlanRow], done: Collection[str] = ()) -> list[UnitBytes]:
    """What a task reads: the source travels there pickled."""
    there = pickle.loads(pickle.dumps(source))
    return [unit for row in rows for unit in there.read(row, done)]


def images(source: Source, rows: Iterable[PlanRow] | None = None) -> list[EncodedImage]:
    """All images of all units, in order."""
    found = units(source, plan(source) if rows is None else rows)
    assert len({unit.unit_id for unit in found}) == len(found)
    return [image for unit in found for image in unit.images]


def digests(encoded: Iterable[EncodedImage]) -> list[str]:
    """Sorted SHA-256 of the bytes; an image without bytes fails the test."""
    return sorted(hashlib.sha256(image.data).hexdigest() for image in encoded)
