"""The embeddings of a masks file in blocks of float32, as fast as its bytes can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fastsam_batch.corpus.pages import UnknownPages, half_lists, to_float32

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_COLUMN = "embedding"


class Block(NamedTuple):
    """Some masks that have an embedding: `embeddings` float32 [n, D], valid until the next block is made, and
    `keys`, which names rows of it as (image_id, mask_index).
    """

    embeddings: NDArray[np.float32]
    keys: Callable[[NDArray[np.int64]], list[tuple[str, int]]]


def vector_blocks(fs: AbstractFileSystem, path: str, dim: int, block_rows: int) -> Iterator[Block]:
    """The masks of one file that have an embedding, at most `block_rows` at a time, in its order.

    Only the embeddings are read, and the names of row groups that are asked for. Raises OSError or
    pyarrow's errors for a missing or broken file.
    """
    out = np.empty((block_rows, dim), np.float32)
    with fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            halfs, valid = _row_group(fs, path, parquet, group, dim)
            rows = np.arange(len(halfs)) if valid is None else np.flatnonzero(valid)
            names = cache(partial(parquet.read_row_group, group, columns=["image_id", "mask_index"]))
            for start in range(0, len(halfs), block_rows):
                part = halfs[start : start + block_rows]
                yield Block(to_float32(part, out[: len(part)]), partial(_keys, names, rows[start : start + block_rows]))


def _row_group(
    fs: AbstractFileSystem, path: str, parquet: pq.ParquetFile, group: int, dim: int
) -> tuple[NDArray[np.float16], NDArray[np.bool_] | None]:
    """Embeddings float16 [valid rows, D] of a row group, and which rows are valid, None for all."""
    meta = parquet.metadata.row_group(group)
    chunks = (meta.column(number) for number in range(meta.num_columns))
    chunk = next((each for each in chunks if each.path_in_schema.partition(".")[0] == _COLUMN), None)
    if chunk is not None and not chunk.has_dictionary_page:
        start = chunk.data_page_offset
        try:
            data = fs.cat_file(path, start=start, end=start + chunk.total_compressed_size)
            return half_lists(data, meta.num_rows, dim, chunk.compression)
        except UnknownPages:  # laid out by another writer: Arrow reads them all
            pass
    column = parquet.read_row_group(group, columns=[_COLUMN])[_COLUMN].combine_chunks()
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    halfs = column.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float16).reshape(-1, dim)
    return halfs, None if valid.all() else valid


def _keys(names: Callable[[], pa.Table], rows: NDArray[np.int64], chosen: NDArray[np.int64]) -> list[tuple[str, int]]:
    kept = names().take(pa.array(rows[chosen]))
    return list(zip(kept["image_id"].to_pylist(), kept["mask_index"].to_pylist(), strict=True))
