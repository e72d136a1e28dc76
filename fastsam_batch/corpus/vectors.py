"""The embeddings of a masks file, as fast as its bytes can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fastsam_batch.corpus.chunks import COMPRESSIONS, Chunk, Space, open_chunk
from fastsam_batch.corpus.pages import HalfLists, UnknownPages
from fastsam_batch.corpus.products import Lists, Products
from fastsam_batch.storage import is_local

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_COLUMN = "embedding"
# Of a row group: its image_ids, and of each row the place among them and the mask_index.
_Names: TypeAlias = tuple[pa.StringArray, NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class Block:
    """Masks of a row group that have an embedding, valid until the next block is made.

    `cosines` float32 [q, n] are their products with the vectors asked for, each within ROUNDING of the true one.
    `embeddings` gives float32 [r, D] of r rows, which ascend, and `keys` names them as (image_id, mask_index): both
    read what they give, and raise as `vector_blocks`.
    """

    cosines: NDArray[np.float32]
    embeddings: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    keys: Callable[[NDArray[np.int64]], list[tuple[str, int]]]

    def __len__(self) -> int:
        return int(self.cosines.shape[1])


def vector_blocks(
    fs: AbstractFileSystem,
    path: str,
    products: Products,
    kept: NDArray[np.bool_] | None = None,
) -> Iterator[Block]:
    """The masks of one file that have an embedding, in its order, and their cosines with unit vectors [q, D].

    `kept` says of each row of the file whether it is wanted. Only the embeddings are read, and the names of row groups
    that are asked for. Raises OSError or pyarrow's errors for a missing or broken file.
    """
    with pa.OSFile(path) if is_local(fs) else fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(file, read_dictionary=["image_id"])  # so that no name is made that nobody asks for
        end = 0
        for group in range(parquet.num_row_groups):
            first, end = end, end + parquet.metadata.row_group(group).num_rows
            wanted = None if kept is None else kept[first:end]
            if wanted is not None and not wanted.any():
                continue
            names = cache(partial(_names, parquet, group))
            with _chunk(fs, path, parquet, group, products.space) as chunk:
                lists, cosines = _multiplied(chunk, parquet, group, products)
                rows = lists.rows()
                places = np.arange(len(rows)) if wanted is None else np.flatnonzero(wanted[rows])
                if len(places) < len(rows):
                    cosines = cosines[:, places]
                if cosines.size:
                    yield Block(cosines, partial(_embeddings, lists, places), partial(_keys, names, rows[places]))


def embedding_matrix(embedding: pa.FixedSizeListArray) -> NDArray[np.float32]:
    """float32 [n, D] of n stored embeddings; a row of NaN where one is null."""
    size = embedding.type.list_size
    stored = embedding.values.slice(embedding.offset * size, len(embedding) * size)
    matrix: NDArray[np.float32] = stored.to_numpy(zero_copy_only=False).astype(np.float32)
    matrix = matrix.reshape(len(embedding), size)
    if embedding.null_count:
        matrix[embedding.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return matrix


def _chunk(
    fs: AbstractFileSystem, path: str, parquet: pq.ParquetFile, group: int, space: Space
) -> AbstractContextManager[Chunk | None]:
    """The embeddings of a row group where their pages can be read one by one."""
    meta = parquet.metadata.row_group(group)
    columns = (meta.column(number) for number in range(meta.num_columns))
    stored = next((each for each in columns if each.path_in_schema.partition(".")[0] == _COLUMN), None)
    if stored is None or stored.has_dictionary_page or stored.compression not in COMPRESSIONS:
        return nullcontext()
    return open_chunk(fs, path, stored.data_page_offset, stored.total_compressed_size, stored.compression, space)


def _multiplied(
    chunk: Chunk | None, parquet: pq.ParquetFile, group: int, products: Products
) -> tuple[Lists, NDArray[np.float32]]:
    rows = parquet.metadata.row_group(group).num_rows
    if chunk is not None:
        try:
            lists = HalfLists(chunk, rows, products.dim)
            return lists, products.of(lists, rows)
        except UnknownPages:  # laid out by another writer
            pass
    held = _Held(parquet, group, products.dim)
    return held, products.of(held, rows)


class _Held:
    """The embeddings of a row group as Arrow reads them, all at once."""

    def __init__(self, parquet: pq.ParquetFile, group: int, dim: int) -> None:
        column = parquet.read_row_group(group, columns=[_COLUMN])[_COLUMN].combine_chunks()
        self._rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        values = column.drop_null().flatten().to_numpy(zero_copy_only=False)
        self._matrix: NDArray[np.float16] = values.astype(np.float16).reshape(-1, dim)

    def parts(self) -> Iterator[tuple[slice, NDArray[np.float16]]]:
        yield slice(0, len(self._matrix)), self._matrix

    def rows(self) -> NDArray[np.int64]:
        return self._rows

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float16]:
        return self._matrix[places]


def _embeddings(lists: Lists, places: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return lists.take(places[rows]).astype(np.float32)


def _names(parquet: pq.ParquetFile, group: int) -> _Names:
    table = parquet.read_row_group(group, columns=["image_id", "mask_index"], use_threads=False)
    image_id = table["image_id"].unify_dictionaries().combine_chunks()
    return image_id.dictionary, image_id.indices.to_numpy(), table["mask_index"].to_numpy()


def _keys(names: Callable[[], _Names], rows: NDArray[np.int64], chosen: NDArray[np.int64]) -> list[tuple[str, int]]:
    image_ids, places, mask_index = names()
    return [(image_ids[int(places[row])].as_py(), int(mask_index[row])) for row in rows[chosen]]
