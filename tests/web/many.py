"""A corpus of more photographs than a page of the grid holds."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import skimage.data
from corpus.made_corpus import FINGERPRINT, commit, corpus_info, parquet, receipt_of, write
from PIL import Image
from sources.made_inputs import tar_bytes

from fastsam_batch.corpus.schema import images_schema, masks_schema

_UNIT_SIZE = 125


def many_photographs(folder: Path, count: int) -> str:
    """A corpus of `count` photographs in one tar, without masks."""
    photograph = Image.fromarray(skimage.data.chelsea())
    members, rows = [], []
    for number in range(count):
        sink = io.BytesIO()
        left = number % 150
        photograph.crop((left, number % 60, left + 150, number % 60 + 100)).save(sink, "JPEG")
        name = f"{number:04d}.jpg"
        members.append((name, sink.getvalue()))
        row = dict.fromkeys(images_schema().names)
        row |= {"image_id": f"all.tar/{name}", "uri": f"{folder}/all.tar#{name}"}
        row |= {"unit_id": f"u{number // _UNIT_SIZE}"}
        rows.append(row | {"width": 150, "height": 100, "n_masks": 0, "sha256": "0" * 64, "status": "ok"})
    (folder / "all.tar").write_bytes(tar_bytes(members))
    uri = str(folder / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(None) | {"fingerprint": FINGERPRINT}).encode())
    for unit, start in enumerate(range(0, count, _UNIT_SIZE)):
        of_unit = rows[start : start + _UNIT_SIZE]
        images = parquet(pa.Table.from_pylist(of_unit, schema=images_schema()))
        commit(uri, f"u{unit}", images, parquet(pa.Table.from_pylist([], schema=masks_schema(None))))
        receipt = receipt_of(uri, f"u{unit}") | {"images": len(of_unit)}
        write(uri, f"receipts/u{unit}.json", json.dumps(receipt).encode())
    return uri
