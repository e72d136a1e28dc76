"""The embeddings of a masks file, as fast as its bytes can be read."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fastsam_batch import storage
from fastsam_batch.corpus.pages import UnknownPages, half_lists, to_float32

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_COLUMN = "embedding"
# Values turned to float32 at once: they are multiplied while they lie in a core's cache.
_VALUES_AT_ONCE = 2**19


@dataclass(frozen=True, eq=False)
class Block:
    """Some masks that have an embedding, valid until the next block is made.

    `halfs` are their embeddings as stored, float16 [n, D] in parts; `keys` names rows as (image_id, mask_index);
    `room` float32 [m, D] is where cosines turns some of them to float32.
    """

    halfs: Sequence[NDArray[np.float16]]
    keys: Callable[[NDArray[np.int64]], list[tuple[str, int]]]
    room: NDArray[np.float32]

    def __len__(self) -> int:
        return sum(map(len, self.halfs))

    def cosines(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float32 products [q, n] of unit vectors [q, D] with every embedding."""
        out = np.empty((len(vectors), len(self)), np.float32)
        start = 0
        for halfs in self.halfs:
            for first in range(0, len(halfs), len(self.room)):
                part = halfs[first : first + len(self.room)]
                with np.errstate(invalid="ignore", over="ignore"):  # embeddings that are no numbers
                    np.matmul(vectors, to_float(part, self.room[: len(part)]).T, out=out[:, start : start + len(part)])
                start += len(part)
        return out

    def embeddings(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Float32 [len(rows), D] of some rows, which ascend."""
        stops = np.cumsum([len(halfs) for halfs in self.halfs])
        parts = np.split(rows, np.searchsorted(rows, stops[:-1]))
        starts = stops - [len(halfs) for halfs in self.halfs]
        chosen = [halfs[part - start] for halfs, part, start in zip(self.halfs, parts, starts, strict=True)]
        return np.concatenate(chosen).astype(np.float32)


def to_float(halfs: NDArray[np.float16], out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Float16 [n, D] as float32, exactly, into `out` [n, D]."""
    # PyTorch has the processor's own instruction, four times as fast; a text encoder has loaded it already.
    torch = sys.modules.get("torch")
    if torch is None or not halfs.flags.writeable:
        return to_float32(halfs, out)
    torch.from_numpy(out).copy_(torch.from_numpy(halfs))
    return out


def vector_blocks(fs: AbstractFileSystem, path: str, dim: int, block_rows: int) -> Iterator[Block]:
    """The masks of one file that have an embedding, at most `block_rows` at a time, in its order.

    Only the embeddings are read, and the names of row groups that are asked for. Raises OSError or
    pyarrow's errors for a missing or broken file.
    """
    room = np.empty((max(_VALUES_AT_ONCE // dim, 1), dim), np.float32)
    with fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            names = cache(partial(parquet.read_row_group, group, columns=["image_id", "mask_index"]))
            for parts, rows in _blocks(_row_group(fs, path, parquet, group, dim), block_rows):
                yield Block(parts, partial(_keys, names, rows), room)


_Parts = list[NDArray[np.float16]]


def _blocks(
    pages: Iterable[tuple[_Parts, NDArray[np.int64]]], block_rows: int
) -> Iterator[tuple[_Parts, NDArray[np.int64]]]:
    """Pages of lists, in parts, with their rows, as blocks of `block_rows` and what is left."""
    block: _Parts = []
    rows: list[NDArray[np.int64]] = []
    room = block_rows
    for parts, of_page in pages:
        for part in parts:
            while len(part):
                taken = part[:room]
                block.append(taken)
                rows.append(of_page[: len(taken)])
                part, of_page, room = part[room:], of_page[len(taken) :], room - len(taken)
                if not room:
                    yield block, np.concatenate(rows)
                    block, rows, room = [], [], block_rows
    if block:
        yield block, np.concatenate(rows)


def _row_group(
    fs: AbstractFileSystem, path: str, parquet: pq.ParquetFile, group: int, dim: int
) -> Iterator[tuple[_Parts, NDArray[np.int64]]]:
    """Embeddings float16 [n, D] of a row group, in parts, and their rows int64 [n], page by page."""
    meta = parquet.metadata.row_group(group)
    chunks = (meta.column(number) for number in range(meta.num_columns))
    chunk = next((each for each in chunks if each.path_in_schema.partition(".")[0] == _COLUMN), None)
    done, last = 0, -1
    if chunk is not None and not chunk.has_dictionary_page:
        start = chunk.data_page_offset
        try:
            data = _bytes(fs, path, start, start + chunk.total_compressed_size)
            for halfs, rows in half_lists(data, meta.num_rows, dim, chunk.compression):
                yield halfs, rows
                done, last = done + len(rows), rows[-1] if len(rows) else last
            return
        except UnknownPages:  # laid out by another writer: Arrow reads what is left
            pass
    column = parquet.read_row_group(group, columns=[_COLUMN])[_COLUMN].combine_chunks()
    valid = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    if done and (done > len(valid) or valid[done - 1] != last):  # what was given were other rows
        raise pa.ArrowInvalid("the pages of the embeddings do not fit their rows")
    matrix = column.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float16).reshape(-1, dim)
    yield [matrix[done:]], valid[done:]


def _bytes(fs: AbstractFileSystem, path: str, start: int, end: int) -> memoryview:
    """A part of a file; of a local one the pages that the system holds, without a copy."""
    if not storage.is_local(fs):
        return memoryview(fs.cat_file(path, start=start, end=end))
    with open(path, "rb") as file:
        # A private copy on write, of which nothing is written: PyTorch takes no arrays that cannot be.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))[start:end]


def _keys(names: Callable[[], pa.Table], rows: NDArray[np.int64], chosen: NDArray[np.int64]) -> list[tuple[str, int]]:
    kept = names().take(pa.array(rows[chosen]))
    return list(zip(kept["image_id"].to_pylist(), kept["mask_index"].to_pylist(), strict=True))
