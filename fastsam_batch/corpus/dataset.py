"""The Parquet files of units as one table: its rows in order and in bounded memory, and which file a scan broke at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from numpy.typing import NDArray

from fastsam_batch.errors import InputError, first_line
from fastsam_batch.storage import is_local

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Rows in flight are a batch's times this, in each of two files: memory does not grow with the corpus.
_BATCHES_AHEAD = 2
_FILES_AHEAD = 2


def unit_files(fs: AbstractFileSystem, paths: Mapping[str, str], schema: pa.Schema) -> ds.FileSystemDataset:
    """The files at `paths`, by unit_id, in that order; `unit_id`, which the schema has and masks files do not store,
    tells the file.
    """
    return ds.FileSystemDataset.from_paths(
        list(paths.values()),
        schema=schema,
        format=ds.ParquetFileFormat(),
        filesystem=_arrow_filesystem(fs),
        partitions=[pc.field("unit_id") == unit for unit in paths],
    )


def rows_of(
    files: ds.FileSystemDataset, columns: Sequence[str], where: pc.Expression | None, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """The rows for which a filter holds, at most `batch_rows` at a time, without empty batches.

    Raises InputError for a filter over other columns, OSError or pyarrow's errors for a missing or broken file.
    """
    with _telling_of_filter(where, files.schema):
        scanner = files.scanner(
            columns=list(columns),
            filter=where,
            batch_size=batch_rows,
            batch_readahead=_BATCHES_AHEAD,
            fragment_readahead=_FILES_AHEAD,
        )
    yield from (batch for batch in scanner.to_batches() if len(batch))


def kept_rows(file: ds.FileSystemDataset, where: pc.Expression) -> NDArray[np.bool_]:
    """Of each row of one file, in its order, whether a filter holds; empty where it is of other units.

    Only the columns are read that the filter names, of row groups whose statistics leave it open. Raises as `rows_of`.
    """
    with _telling_of_filter(where, file.schema):
        whole = next(file.get_fragments(where), None)
    if whole is None:
        return np.zeros(0, np.bool_)
    groups = whole.row_groups
    with _telling_of_filter(where, file.schema):
        part = whole.subset(where, schema=file.schema)
        scanner = ds.Scanner.from_fragment(part, schema=file.schema, columns={"kept": where}, use_threads=False)
    left = {group.id for group in part.row_groups}
    kept = np.concatenate([np.full(group.num_rows, group.id in left) for group in groups] or [np.zeros(0, np.bool_)])
    if left:
        kept[kept] = holding(scanner.to_table()["kept"])
    return kept


def holding(kept: pa.ChunkedArray) -> NDArray[np.bool_]:
    """What a filter says of rows: as in SQL, unknown is not true."""
    holds: NDArray[np.bool_] = kept.fill_null(False).to_numpy()
    return holds


@contextmanager
def _telling_of_filter(where: pc.Expression | None, schema: pa.Schema) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:  # an expression of the caller's
        names = ", ".join(schema.names)
        raise InputError(f"the filter {where} does not fit ({first_line(error)}); the columns are {names}") from error


def broken_files(files: ds.FileSystemDataset) -> Iterator[tuple[str, Exception]]:
    """Paths that cannot be read alone: a scan of many does not always name the one it fails at."""
    for fragment in files.get_fragments():
        try:
            fragment.to_table(schema=files.schema)
        except (OSError, pa.ArrowException) as error:
            yield fragment.path, error


def _arrow_filesystem(fs: AbstractFileSystem) -> pafs.FileSystem:
    """The same files for pyarrow; local ones without a detour through Python."""
    return pafs.LocalFileSystem() if is_local(fs) else pafs.PyFileSystem(pafs.FSSpecHandler(fs))
