"""The embeddings of a masks file, as fast as its bytes can be read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fastsam_batch.corpus.chunks import COMPRESSIONS, Space, open_chunk
from fastsam_batch.corpus.pages import UnknownPages, half_lists, to_float32

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# How far a product of unit vectors can lie from the true one: 2**-11 for a vector rounded to half floats, as much for
# their product.
ROUNDING = 1e-3
_COLUMN = "embedding"
# Values turned to float32 at once: they are multiplied while they lie in a core's cache.
_VALUES_AT_ONCE = 2**19
_ROWS_AT_ONCE = 8192  # of a row group that Arrow reads
# So many vectors are multiplied with half floats as they are, one by one; more with float32 ones, together.
_ONE_BY_ONE = 4


_Parts: TypeAlias = list[NDArray[np.float16]]


@dataclass(frozen=True, eq=False)
class Block:
    """Some masks that have an embedding, valid until the next block is made.

    `halfs` are their embeddings as stored, float16 [n, D] in parts; `cosines` float32 [q, n] their products with the
    vectors asked for, each within ROUNDING of the true one; `keys` names rows as (image_id, mask_index).
    """

    halfs: _Parts
    cosines: NDArray[np.float32]
    keys: Callable[[NDArray[np.int64]], list[tuple[str, int]]]

    def __len__(self) -> int:
        return sum(map(len, self.halfs))

    def embeddings(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Float32 [len(rows), D] of some rows, which ascend."""
        stops = np.cumsum([len(halfs) for halfs in self.halfs])
        parts = np.split(rows, np.searchsorted(rows, stops[:-1]))
        starts = stops - [len(halfs) for halfs in self.halfs]
        chosen = [halfs[part - start] for halfs, part, start in zip(self.halfs, parts, starts, strict=True)]
        return np.concatenate(chosen).astype(np.float32)


def vector_blocks(
    fs: AbstractFileSystem,
    path: str,
    vectors: NDArray[np.float32],
    block_rows: int,
    space: Space | None = None,
) -> Iterator[Block]:
    """The masks of one file that have an embedding, in its order, and their cosines with unit vectors [q, D].

    A block ends with the page that makes it `block_rows` masks, or with a row group. A thread that reads many files
    gives them all one `space`. Only the embeddings are read, and the names of row groups that are asked for. Raises
    OSError or pyarrow's errors for a missing or broken file.
    """
    dim = vectors.shape[1]
    room = np.empty((max(_VALUES_AT_ONCE // dim, 1), dim), np.float32)
    space = space or Space()
    with fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file, read_dictionary=["image_id"])  # so that no name is made that nobody asks for
        for group in range(parquet.num_row_groups):
            names = cache(partial(parquet.read_row_group, group, columns=["image_id", "mask_index"], use_threads=False))
            block = _Pages()
            for parts, rows in _row_group(fs, path, parquet, group, dim, space):
                # At once, while the page is in the cache.
                block.add(parts, rows, products(parts, vectors, room))
                if len(block) >= block_rows:
                    yield block.whole(names)
                    block = _Pages()
                    space.clear()
            if len(block):
                yield block.whole(names)
            space.clear()


@dataclass
class _Pages:
    """Pages that become a block."""

    parts: _Parts = field(default_factory=list)
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    cosines: list[NDArray[np.float32]] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    def add(self, parts: _Parts, rows: NDArray[np.int64], cosines: NDArray[np.float32]) -> None:
        self.parts += parts
        self.rows.append(rows)
        self.cosines.append(cosines)

    def whole(self, names: Callable[[], pa.Table]) -> Block:
        return Block(self.parts, np.concatenate(self.cosines, axis=1), partial(_keys, names, np.concatenate(self.rows)))


def products(parts: _Parts, vectors: NDArray[np.float32], room: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products float32 [q, n] of unit vectors [q, D] with embeddings [n, D] in parts, each within ROUNDING.

    Many vectors are multiplied in float32, to which some embeddings at a time are turned in `room` [m, D].
    """
    count = sum(map(len, parts))
    torch = _torch_for(parts)
    if torch is not None and len(vectors) <= _ONE_BY_ONE:
        halfs = torch.empty((len(vectors), count), dtype=torch.float16)
        start = 0
        for part in map(torch.from_numpy, parts):
            for vector, of_vector in zip(torch.from_numpy(vectors).half(), halfs, strict=True):
                torch.mv(part, vector, out=of_vector[start : start + len(part)])  # sums in float32
            start += len(part)
        cosines: NDArray[np.float32] = halfs.float().numpy()
        return cosines
    out = np.empty((len(vectors), count), np.float32)
    start = 0
    for part in parts:
        for first in range(0, len(part), len(room)):
            some = part[first : first + len(room)]
            with np.errstate(invalid="ignore", over="ignore"):  # embeddings that are no numbers
                np.matmul(vectors, to_float(some, room[: len(some)]).T, out=out[:, start : start + len(some)])
            start += len(some)
    return out


def to_float(halfs: NDArray[np.float16], out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Float16 [n, D] as float32, exactly, into `out` [n, D]."""
    torch = _torch_for([halfs])
    if torch is None:
        return to_float32(halfs, out)
    torch.from_numpy(out).copy_(torch.from_numpy(halfs))
    return out


def _torch_for(parts: _Parts) -> Any:
    """PyTorch, which has the processor's own instructions for half floats, where it can take these and a text encoder
    has loaded it already; else None.
    """
    return sys.modules.get("torch") if all(part.flags.writeable for part in parts) else None


def _row_group(
    fs: AbstractFileSystem, path: str, parquet: pq.ParquetFile, group: int, dim: int, space: Space
) -> Iterator[tuple[_Parts, NDArray[np.int64]]]:
    """Embeddings float16 [n, D] of a row group, in parts, and their rows int64 [n], page by page."""
    meta = parquet.metadata.row_group(group)
    columns = (meta.column(number) for number in range(meta.num_columns))
    stored = next((each for each in columns if each.path_in_schema.partition(".")[0] == _COLUMN), None)
    done, last = 0, -1
    if stored is not None and not stored.has_dictionary_page and stored.compression in COMPRESSIONS:
        start, length = stored.data_page_offset, stored.total_compressed_size
        try:
            with open_chunk(fs, path, start, length, stored.compression, space) as chunk:
                for halfs, rows in half_lists(chunk, meta.num_rows, dim):
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
    for first in range(done, len(matrix), _ROWS_AT_ONCE):
        yield [matrix[first : first + _ROWS_AT_ONCE]], valid[first : first + _ROWS_AT_ONCE]


def _keys(names: Callable[[], pa.Table], rows: NDArray[np.int64], chosen: NDArray[np.int64]) -> list[tuple[str, int]]:
    kept = names().take(pa.array(rows[chosen]))
    return list(zip(kept["image_id"].to_pylist(), kept["mask_index"].to_pylist(), strict=True))
