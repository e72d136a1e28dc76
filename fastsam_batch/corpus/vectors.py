"""The embeddings of a masks file, as fast as its bytes can be read."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fastsam_batch import storage
from fastsam_batch.corpus.pages import Read, UnknownPages, half_lists, to_float32

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# How far a product of unit vectors can lie from the true one: 2**-11 for a vector rounded to half floats, as much for
# their product.
ROUNDING = 1e-3
_COLUMN = "embedding"
# Values turned to float32 at once: they are multiplied while they lie in a core's cache.
_VALUES_AT_ONCE = 2**19
# So many vectors are multiplied with half floats as they are, one by one; more with float32 ones, together.
_ONE_BY_ONE = 4


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
        """Products float32 [q, n] of unit vectors [q, D] with every embedding, each within ROUNDING of the true one."""
        torch = _torch_for(self.halfs[0])
        if torch is not None and len(vectors) <= _ONE_BY_ONE:
            columns = torch.from_numpy(vectors).half()  # of which PyTorch sums the products in float32
            parts = [torch.from_numpy(halfs) for halfs in self.halfs]
            rows = [torch.cat([torch.mv(part, column) for part in parts]).float() for column in columns]
            products: NDArray[np.float32] = torch.stack(rows).numpy()
            return products
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
    torch = _torch_for(halfs)
    if torch is None:
        return to_float32(halfs, out)
    torch.from_numpy(out).copy_(torch.from_numpy(halfs))
    return out


def _torch_for(halfs: NDArray[np.float16]) -> Any:
    """PyTorch, which has the processor's own instructions for half floats, where it can take these and a text encoder
    has loaded it already; else None.
    """
    return sys.modules.get("torch") if halfs.flags.writeable else None


def vector_blocks(fs: AbstractFileSystem, path: str, dim: int, block_rows: int) -> Iterator[Block]:
    """The masks of one file that have an embedding, at most `block_rows` at a time, in its order.

    Only the embeddings are read, and the names of row groups that are asked for. Raises OSError or
    pyarrow's errors for a missing or broken file.
    """
    room = np.empty((max(_VALUES_AT_ONCE // dim, 1), dim), np.float32)
    with fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file, read_dictionary=["image_id"])  # so that no name is made that nobody asks for
        for group in range(parquet.num_row_groups):
            names = cache(partial(parquet.read_row_group, group, columns=["image_id", "mask_index"], use_threads=False))
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
        length = chunk.total_compressed_size
        try:
            with _reader(fs, path, chunk.data_page_offset, length, chunk.compression) as read:
                for halfs, rows in half_lists(read, length, meta.num_rows, dim, chunk.compression):
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


@contextmanager
def _reader(fs: AbstractFileSystem, path: str, start: int, length: int, compression: str) -> Iterator[Read]:
    """Reads parts of a chunk that begins at byte `start` of a file.

    Of a local file a compressed page is read where the one before was, so that it is still in the cache when it is
    unpacked; one that is not compressed lies where the system holds the file, without a copy.
    """
    if not storage.is_local(fs):
        data = memoryview(fs.cat_file(path, start=start, end=start + length))
        yield lambda begin, end: data[begin:end]
        return
    with open(path, "rb", buffering=0) as file:
        if compression == "UNCOMPRESSED":
            # A private copy on write, of which nothing is written: PyTorch takes no arrays that cannot be.
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))[start:]
            yield lambda begin, end: mapped[begin:end]
            return
        room = bytearray()

        def read(begin: int, end: int) -> memoryview:
            nonlocal room
            if len(room) < end - begin:
                room = bytearray(end - begin)
            file.seek(start + begin)
            into = memoryview(room)[: end - begin]
            return into[: file.readinto(into)]

        yield read


def _keys(names: Callable[[], pa.Table], rows: NDArray[np.int64], chosen: NDArray[np.int64]) -> list[tuple[str, int]]:
    kept = names().take(pa.array(rows[chosen]))
    return list(zip(kept["image_id"].to_pylist(), kept["mask_index"].to_pylist(), strict=True))
