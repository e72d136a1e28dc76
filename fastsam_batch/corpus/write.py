"""Commit a unit: its masks, its images, then its receipt, each whole or absent."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import time
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastsam_batch.corpus.info import CorpusInfo
from fastsam_batch.corpus.layout import images_file, masks_file, receipt_file
from fastsam_batch.corpus.rows import UnitResult, with_footer
from fastsam_batch.corpus.schema import SCHEMA_VERSION
from fastsam_batch.storage import filesystem, join, write_atomic

ROW_GROUP_ROWS = 16_384  # 8 MiB of 256 half floats: large enough to scan, small enough to filter

PAGE_BYTES = 16 << 20  # a search unpacks the first 128 KiB of each


def commit_unit(corpus_uri: str, info: CorpusInfo, unit: UnitResult) -> dict[str, Any]:
    """Write a unit's files and then its receipt, which is returned.

    The names depend on the unit alone and the content on its images, so a repeated commit replaces equal
    files. Raises OSError where the store fails.
    """
    began = time.perf_counter()
    fs, root = filesystem(corpus_uri)
    files = {}
    for name, table, path in (
        ("masks", unit.masks, masks_file(unit.unit_id)),
        ("images", unit.images, images_file(unit.unit_id)),
    ):
        data = parquet_bytes(with_footer(table, name, info.fingerprint, info.models))
        write_atomic(fs, join(root, path), data)
        files[name] = {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    kinds = collections.Counter(kind for kind in unit.images["error_kind"].to_pylist() if kind)
    stages = {**unit.stages, "commit": time.perf_counter() - began}
    receipt = {
        "schema_version": SCHEMA_VERSION,
        "unit_id": unit.unit_id,
        "shard": unit.shard,
        "last": unit.last,
        "images": unit.images.num_rows,
        "failed": sum(kinds.values()),
        "masks": unit.masks.num_rows,
        "failures": dict(sorted(kinds.items())),
        "files": files,
        "fingerprint": info.fingerprint,
        "attempt": unit.attempt,
        "seconds": round(sum(stages.values()), 6),
        "stages": {stage: round(seconds, 6) for stage, seconds in stages.items()},
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_atomic(fs, join(root, receipt_file(unit.unit_id)), json.dumps(receipt, indent=1).encode())
    return receipt


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the Parquet file that a corpus holds. No row group is of two chunks, which may be too much for one."""
    buffer = io.BytesIO()
    # Dictionaries only where values repeat: on embeddings and runs they would cost and save nothing.
    repeating = [name for name in ("image_id", "unit_id", "status", "error_kind") if name in table.column_names]
    # Half floats of unit vectors lose a tenth to zstd, and a search would unpack it all at .9 GB a second; its
    # negative levels keep them as they are and unpack at the speed of a copy.
    levels = {path: -1 if path.startswith("embedding.") else 1 for path in _leaves(table.schema)}
    options = {"compression_level": levels, "data_page_size": PAGE_BYTES, "use_dictionary": repeating}
    with pq.ParquetWriter(buffer, table.schema, compression="zstd", **options) as writer:
        for part in [pa.Table.from_batches([batch]) for batch in table.to_batches()] or [table]:
            writer.write_table(part, row_group_size=ROW_GROUP_ROWS)
    return buffer.getvalue()


def _leaves(schema: pa.Schema) -> list[str]:
    """Paths of a schema's columns in a Parquet file."""
    sink = io.BytesIO()
    pq.ParquetWriter(sink, schema).close()
    columns = pq.ParquetFile(sink).schema
    return [columns.column(number).path for number in range(len(columns))]
