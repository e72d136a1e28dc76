"""Embeddings read from pages against Arrow's own reader, whatever wrote the file."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_batch.corpus.chunks import BytesChunk, Space, open_chunk
from fastsam_batch.corpus.pages import HalfLists, UnknownPages
from fastsam_batch.corpus.products import ROUNDING, Products, to_float
from fastsam_batch.corpus.vectors import vector_blocks


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def table_of(rows: list[bool], dim: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    lists = [unit(random.normal(size=dim)).astype(np.float16) if valid else None for valid in rows]
    return pa.table(
        {
            "image_id": pa.array([f"image-{row // 3}" for row in range(len(rows))], pa.string()),
            "mask_index": pa.array(np.arange(len(rows)) % 3, pa.int32()),
            "embedding": pa.array(lists, pa.list_(pa.float16(), dim)),
        }
    )


def lists_of(chunk: bytes, rows: int, size: int, compression: str) -> tuple[np.ndarray, np.ndarray]:
    """Lists of a chunk, as they pass by, and their rows. Each is given once."""
    codec = None if compression == "UNCOMPRESSED" else pa.Codec(compression.lower())
    lists = HalfLists(BytesChunk(memoryview(chunk), codec), rows, size)
    found, given = np.full((rows, size), np.nan, np.float16), np.zeros(rows, np.int64)
    for places, part in lists.parts():
        found[places] = part
        given[places] += 1
    count = len(lists.rows())
    np.testing.assert_array_equal(given, np.arange(rows) < count)
    return found[:count], lists.rows()


def read(table: pa.Table, **options: Any) -> list[tuple[str, int, list[float]]]:
    """Every list with its key, from a store and from a local disk."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    stored = fsspec.filesystem("memory")
    stored.pipe_file("/pages/masks.parquet", sink.getvalue())
    found = read_blocks(table, stored, "/pages/masks.parquet")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "masks.parquet")
        path.write_bytes(sink.getvalue())
        assert read_blocks(table, fsspec.filesystem("file"), str(path)) == found
    return found


def read_blocks(table: pa.Table, fs: Any, path: str) -> list[tuple[str, int, list[float]]]:
    found: list[list[tuple[str, int, list[float]]]] = []
    dim = table.schema.field("embedding").type.list_size
    for count, loaded in ((1, True), (2, True), (9, True), (2, False)):
        found.append([])
        vectors = unit(np.random.default_rng(0).normal(size=(count, dim))).astype(np.float32)
        with patch.dict(sys.modules, {} if loaded else {"torch": None}):  # as before a text encoder has loaded it
            products = Products(vectors)
            products.space.content[:] = b"\xff" * len(products.space.content)  # as after another file
            for block in vector_blocks(fs, path, products):
                assert len(block) > 0
                rows = np.arange(len(block))
                embeddings = block.embeddings(rows)
                for some in (rows[1::2], rows[:1], rows[-1:], rows[:: max(len(rows) // 3, 1)]):
                    np.testing.assert_array_equal(block.embeddings(some), embeddings[some])
                true = vectors.astype(np.float64) @ embeddings.astype(np.float64).T
                assert (np.abs(block.cosines - true) <= ROUNDING).all()
                if count > 4 or not loaded:  # together, in float32
                    np.testing.assert_allclose(block.cosines, true, rtol=1e-4, atol=1e-5)
                found[-1] += [(*key, row) for key, row in zip(block.keys(rows), embeddings.tolist(), strict=True)]
    assert all(each == found[0] for each in found)
    return found[0]


def expected(table: pa.Table) -> list[tuple[str, int, list[float]]]:
    rows = table.to_pylist()
    return [
        (row["image_id"], row["mask_index"], list(row["embedding"])) for row in rows if row["embedding"] is not None
    ]


@given(
    rows=st.lists(st.booleans(), max_size=60),
    dim=st.sampled_from([1, 3, 16]),
    seed=st.integers(0, 100),
    compression=st.sampled_from(["zstd", "none", "snappy"]),
    page_size=st.sampled_from([16, 64, 2**20]),
    group=st.sampled_from([5, 100]),
)
@settings(max_examples=60, deadline=None)
def test_as_arrow_reads_them(rows, dim, seed, compression, page_size, group) -> None:
    table = table_of(rows, dim, seed)
    options = {"compression": compression, "data_page_size": page_size, "row_group_size": group}
    assert read(table, use_dictionary=["image_id"], **options) == expected(table)


@pytest.mark.parametrize("dim", [333, 512])
@pytest.mark.parametrize("nulls", [0, 0.3])
@pytest.mark.parametrize("page_size", [300_000, 2**22])
def test_pages_of_many_blocks_that_zstd_keeps(dim: int, nulls: float, page_size: int) -> None:
    rows = (np.random.default_rng(0).random(2500) >= nulls).tolist()
    table = table_of(rows, dim, 0)
    options = {"compression": "zstd", "compression_level": -1, "data_page_size": page_size, "row_group_size": 2000}
    assert read(table, use_dictionary=["image_id"], **options) == expected(table)


def test_a_null_list_before_many_values() -> None:
    """The length of their run of levels takes two bytes, in a compressed page."""
    table = table_of([False, True, True, True, True, True, False], 16, 0)
    assert read(table, use_dictionary=["image_id"], compression="zstd", data_page_size=16) == expected(table)


@pytest.mark.parametrize(
    "options",
    [
        {"use_dictionary": True},
        {"use_dictionary": False, "data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": {"embedding.list.element": "BYTE_STREAM_SPLIT"}},
        {"use_dictionary": False, "write_page_checksum": True},
    ],
)
def test_other_layouts(options: dict[str, Any]) -> None:
    table = table_of([True, False, True, True] * 10, 8, 0)
    assert read(table, **options) == expected(table)


def test_half_floats_become_float32_exactly() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    finite = np.where(np.isfinite(every), every, np.float16(1))
    assert sys.modules["torch"] is torch  # once it is loaded it converts
    for halfs in (every, finite):
        for torch_or_none in (torch, None):
            with patch.dict(sys.modules, {"torch": torch_or_none}):
                out = np.empty(halfs.shape, np.float32)
                np.testing.assert_array_equal(to_float(halfs, out), halfs.astype(np.float32))


@pytest.mark.parametrize("size", [-1, 2**40, 2**62 - 1, 2**63])
@pytest.mark.parametrize("compression", ["ZSTD", "SNAPPY", "UNCOMPRESSED"])
def test_a_page_that_claims_to_be_of_any_size(tmp_path: Path, size: int, compression: str) -> None:
    def field(value: int) -> bytes:
        """As Thrift's compact protocol writes an integer."""
        value, out = value << 1 if value >= 0 else -value * 2 - 1, b""
        while value > 127:
            value, out = value >> 7, out + bytes([value & 127 | 128])
        return out + bytes([value])

    levels = b"\x15" + field(32) + b"\x15\x00\x15\x06\x15\x06\x00"  # 32 slots, PLAIN, RLE, RLE
    header = b"\x15\x00\x15" + field(size) + b"\x15" + field(100) + b"\x2c" + levels + b"\x00"
    file = tmp_path / "chunk"
    file.write_bytes(header + b"\x28\xb5\x2f\xfd" + bytes(96))
    with (
        open_chunk(fsspec.filesystem("file"), str(file), 0, file.stat().st_size, compression, Space()) as chunk,
        pytest.raises(UnknownPages, match="more bytes"),
    ):
        list(HalfLists(chunk, 4, 8).parts())


@pytest.mark.parametrize("chunk", [b"\x00", b"\x15\x04\x15", b"\xff" * 40, b"\x1c" * 5000])
def test_bytes_that_are_no_pages(chunk: bytes) -> None:
    with pytest.raises(UnknownPages):
        lists_of(chunk, 4, 8, "ZSTD")


@given(
    compression=st.sampled_from(["zstd", "none", "snappy"]),
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    kept=st.sampled_from([1.0, 1.0, 0.4]),
)
@settings(max_examples=300, deadline=None)
def test_damaged_pages_are_told_or_read(compression: str, damage: list[tuple[float, int]], kept: float) -> None:
    sink = io.BytesIO()
    table = table_of([row % 5 != 2 for row in range(30)], 8, 0).select(["embedding"])
    pq.write_table(table, sink, compression=compression, use_dictionary=False, data_page_size=64)
    meta = pq.ParquetFile(sink).metadata.row_group(0).column(0)
    chunk = bytearray(sink.getvalue()[meta.data_page_offset :][: meta.total_compressed_size])
    for place, value in damage:
        chunk[int(place * (len(chunk) - 1))] = value
    try:
        lists, _ = lists_of(bytes(chunk[: int(kept * len(chunk))]), 30, 8, meta.compression)
    except (UnknownPages, OSError, pa.ArrowInvalid):
        return
    assert lists.dtype == np.float16
