"""Search results as files."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from fastsam_batch import storage

FORMATS = (".parquet", ".jsonl")


def write_hits(uri: storage.Uri, hits: pa.Table) -> None:
    """Write a search result (`find.hits_schema`) whole or not at all, as the name's ending says.

    `.parquet`, or `.jsonl` with one JSON object a hit. Raises InputError for another ending.
    """
    storage.check_ending(uri, FORMATS)
    data = _parquet(hits) if storage.ends_in(uri, ".parquet") else _json_lines(hits)
    storage.write_result(uri, data)


def _parquet(hits: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(hits, sink, compression="zstd")
    return sink.getvalue()


def _json_lines(hits: pa.Table) -> bytes:
    lines = (json.dumps(row, ensure_ascii=False) for row in hits.to_pylist())
    return "".join(f"{line}\n" for line in lines).encode()
