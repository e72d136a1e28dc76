"""A small corpus of real photographs with random masks, written by hand from the contract."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from PIL import Image
from pycocotools import mask as coco

from fastsam_batch.corpus.plan import write_plan
from fastsam_batch.corpus.schema import images_schema, masks_schema
from fastsam_batch.sources.base import ImageRef, PlanRow

DIM = 16
FINGERPRINT = "f" * 64
PHOTOGRAPHS = [
    ["astronaut.png", "chelsea.png", "broken.png"],  # the last one fails
    ["coffee.png", "rocket.png"],
    ["coins.png", "camera.png"],  # no mask on the last one
]


@dataclass
class MadeCorpus:
    """Where it is, and every row that was written."""

    uri: str
    masks: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)


def make_corpus(uri: str, photographs: Path, seed: int = 0, dim: int | None = DIM) -> MadeCorpus:
    """Write the photographs to a folder and a corpus of three units about them to `uri`."""
    random = np.random.default_rng(seed)
    made = MadeCorpus(uri)
    write(uri, "corpus.json", json.dumps(corpus_info(dim)).encode())
    for number, names in enumerate(PHOTOGRAPHS):
        unit_id = f"unit-{number:04d}"
        images = [image_row(unit_id, name, photographs) for name in names]
        masks = [row for image in images for row in mask_rows(image, random, dim)]
        for image in images:
            image["n_masks"] = sum(row["image_id"] == image["image_id"] for row in masks)
        write_unit(uri, unit_id, images, masks, dim)
        made.images += images
        made.masks += masks
    write_plan(uri, 1, [plan_row(f"unit-{number:04d}", names) for number, names in enumerate(PHOTOGRAPHS)])
    return made


def plan_row(unit_id: str, names: list[str]) -> PlanRow:
    """A unit of these photographs as it is planned."""
    members = tuple(ImageRef(name, name) for name in names)
    return PlanRow(unit_id, "", "members", 0, len(names), len(names), members=members)


def corpus_info(dim: int | None) -> dict[str, Any]:
    """A valid corpus.json."""
    segmenter = {"name": "builtin", "sha256": {"segmenter.safetensors": "a" * 64}, "licence": "AGPL-3.0"}
    embedder = {
        "name": "builtin",
        "sha256": {"clip.safetensors": "b" * 64},
        "licence": "MIT",
        "text_encoder": "builtin",
    }
    return {
        "schema_version": 1,
        "created_by": "fastsam-batch 0.1.0",
        "created_at": "2026-01-02T03:04:05Z",
        "input": "photographs",
        "options": {"conf": 0.4},
        "fingerprint": FINGERPRINT,
        "models": {"segmenter": segmenter, "embedder": embedder if dim else None},
        "embedding_dim": dim,
    }


def image_row(unit_id: str, name: str, photographs: Path) -> dict[str, Any]:
    """One row of images, its photograph on disk."""
    path = photographs / name
    row = {
        "image_id": name,
        "uri": str(path),
        "unit_id": unit_id,
        "n_masks": 0,
        "width": None,
        "height": None,
    }
    if name == "broken.png":
        path.write_bytes(b"not an image")
        row |= {"status": "failed", "error_kind": "not_an_image", "error_message": "the bytes are no image"}
    else:
        picture = Image.fromarray(getattr(skimage.data, name.removesuffix(".png"))()).convert("RGB")
        picture.thumbnail((400, 400))
        picture.save(path)
        row |= {"width": picture.width, "height": picture.height}
        row |= {"status": "ok", "error_kind": None, "error_message": None}
    return row | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def mask_rows(image: dict[str, Any], random: np.random.Generator, dim: int | None) -> list[dict[str, Any]]:
    """Rows of a few random blobs; the second one of each image is too small to embed."""
    if image["status"] == "failed" or image["image_id"] == "camera.png":
        return []
    rows = []
    for index in range(6):
        mask = blob(image["height"], image["width"], random, small=index == 1)
        rle = coco.encode(np.asfortranarray(mask))
        vector = random.normal(size=dim or 1)
        embedding = (vector / np.linalg.norm(vector)).astype(np.float16) if dim and index != 1 else None
        rows.append(
            {
                "image_id": image["image_id"],
                "mask_index": index,
                "bbox": coco.toBbox(rle).tolist(),
                "area": int(mask.sum()),
                "score": float(np.float32(0.9 - 0.1 * index)),
                "stability": float(np.float32(random.uniform(0.5, 1))),
                "rle": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
                "embedding": embedding,
            }
        )
    return rows


def blob(height: int, width: int, random: np.random.Generator, small: bool = False) -> np.ndarray:
    """A wobbly disc, uint8 [height, width]."""
    y, x = np.mgrid[:height, :width]
    centre_y, centre_x = random.uniform(0.2, 0.8) * height, random.uniform(0.2, 0.8) * width
    radius = 4 if small else random.uniform(0.08, 0.3) * min(height, width)
    angle = np.arctan2(y - centre_y, x - centre_x)
    edge = radius * (1 + 0.2 * np.sin(3 * angle + random.uniform(0, 6)) + 0.1 * np.sin(7 * angle))
    return (np.hypot(y - centre_y, x - centre_x) < edge).astype(np.uint8)


def masks_table(masks: list[dict[str, Any]], dim: int | None) -> pa.Table:
    """Rows as a table of the contract's schema."""
    return pa.Table.from_pylist(masks, schema=masks_schema(dim))


def write_unit(
    uri: str,
    unit_id: str,
    images: list[dict[str, Any]],
    masks: list[dict[str, Any]],
    dim: int | None = DIM,
    row_group_size: int = 5,
) -> None:
    """A unit's two files and its receipt."""
    image_file = parquet(pa.Table.from_pylist(images, schema=images_schema()))
    commit(uri, unit_id, image_file, parquet(masks_table(masks, dim), row_group_size=row_group_size))
    receipt = receipt_of(uri, unit_id)
    failed = [image["error_kind"] for image in images if image["status"] == "failed"]
    receipt |= {"images": len(images), "failed": len(failed), "masks": len(masks)}
    receipt |= {"failures": {kind: failed.count(kind) for kind in failed}}
    write(uri, f"receipts/{unit_id}.json", json.dumps(receipt).encode())


def commit(uri: str, unit_id: str, images: bytes, masks: bytes) -> None:
    """Two files, and a receipt that names them with their sizes and digests."""
    files = {}
    for kind, data in (("masks", masks), ("images", images)):
        path = f"{kind}/{unit_id}.parquet"
        write(uri, path, data)
        files[kind] = {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    receipt = {
        "schema_version": 1,
        "unit_id": unit_id,
        "shard": "",
        "last": False,
        "images": 0,
        "failed": 0,
        "masks": 0,
        "failures": {},
        "files": files,
        "fingerprint": FINGERPRINT,
        "attempt": 1,
        "seconds": 1.5,
        "stages": {"segment": 1.0},
        "created_at": "2026-01-02T03:04:05Z",
    }
    write(uri, f"receipts/{unit_id}.json", json.dumps(receipt).encode())


def receipt_of(uri: str, unit_id: str) -> dict[str, Any]:
    """A unit's receipt as it lies there."""
    receipt: dict[str, Any] = json.loads(read(uri, f"receipts/{unit_id}.json"))
    return receipt


def parquet(table: pa.Table, footer: bool = True, row_group_size: int = 5, fingerprint: str = FINGERPRINT) -> bytes:
    """A Parquet file's bytes, with the corpus's mark in the footer."""
    if footer:
        mark = {"schema_version": 1, "fingerprint": fingerprint}
        table = table.replace_schema_metadata({"fastsam_batch": json.dumps(mark)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    return sink.getvalue()


def write(uri: str, path: str, data: bytes) -> None:
    """Put bytes into the corpus."""
    fs, root = fsspec.core.url_to_fs(uri)
    fs.makedirs(f"{root}/{path}".rpartition("/")[0], exist_ok=True)
    fs.pipe_file(f"{root}/{path}", data)


def read(uri: str, path: str) -> bytes:
    """Bytes out of the corpus."""
    fs, root = fsspec.core.url_to_fs(uri)
    data: bytes = fs.cat_file(f"{root}/{path}")
    return data
