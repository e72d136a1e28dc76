"""Row ranges of one Parquet file: which columns hold the images, and no more read than is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import explain, is_storage_error, retry
from fastsam_batch.sources.fetch import stored_uri
from fastsam_batch.storage import open_path, open_whole

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

HUGGING_FACE_COLUMN = "image"
_READ_AHEAD_BYTES = 4 * 1024**2
T = TypeVar("T")


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns asked for. Only those that differ from these defaults must be there."""

    bytes: str = "bytes"
    uri: str = "uri"
    id: str = "image_id"


class ParquetRow(NamedTuple):
    """One row: its number in the file, from 0, and what its columns hold."""

    number: int
    image_id: str | None
    data: bytes | None
    uri: str | None


class Footer(NamedTuple):
    """What a file's footer tells: how many rows, whether they have ids, and how large a row is.

    `row_bytes` is the mean, uncompressed, of that row group whose rows are the largest; 0 where URIs name the images.
    """

    rows: int
    has_ids: bool
    row_bytes: int


def read_footer(uri: str, columns: ColumnNames) -> Footer:
    """The file's footer. Raises InputError where it is no Parquet file or lacks the columns."""

    def read() -> Footer:
        with _opened(uri) as file:
            chosen = _choose(file.schema_arrow, columns, uri)
            row_bytes = _row_bytes(file.metadata) if chosen.bytes else 0
            return Footer(int(file.metadata.num_rows), bool(chosen.id), row_bytes)

    return _readable(uri, read)


def read_ids(uri: str, columns: ColumnNames) -> list[str]:
    """The ids of the rows that have one, as text; reads their column alone. Raises as `read_footer`."""

    def read() -> list[str]:
        with _opened(uri) as file:
            column = file.read([columns.id]).column(0)
            return [text for value in column.to_pylist() if (text := _text(value)) is not None]

    return _readable(uri, read)


def _row_bytes(footer: pq.FileMetaData) -> int:
    # Of all columns: in a damaged footer, pyarrow's view of a single column ends the process.
    groups = (footer.row_group(number) for number in range(footer.num_row_groups))
    return max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)


def _readable(uri: str, read: Callable[[], T]) -> T:
    import pyarrow as pa

    try:
        return retry(read)
    except OutageError as error:
        raise OutageError(f"cannot read {stored_uri(uri)}: {explain(error)}") from error
    except InputError:
        raise
    except Exception as error:
        # ValueError: names of columns that are no text, which Arrow reads without a check.
        if isinstance(error, (pa.ArrowException, ValueError)) or is_storage_error(error):
            raise InputError(
                f"{stored_uri(uri)} is not a readable Parquet file ({explain(error)}): repair or remove it"
            ) from error
        raise


def read_rows(uri: str, start: int, stop: int, columns: ColumnNames) -> list[ParquetRow]:
    """Rows [start, stop), from the row groups that hold them and the columns that are asked for."""
    with _opened(uri) as file:
        chosen = _choose(file.schema_arrow, columns, uri)
        rows: list[ParquetRow] = []
        first = 0  # index of the row group's first row
        for group in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if first < stop and first + size > start:
                rows.extend(_group_rows(file, group, first, max(start, first), min(stop, first + size), chosen))
            first += size
        return rows


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    import pyarrow.parquet as pq

    fs, path = open_path(uri)
    with open_whole(fs, path) as file:
        # Read as a stream, not a whole column chunk at once: a row group may be larger than memory.
        yield pq.ParquetFile(file, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False)


def _group_rows(
    file: pq.ParquetFile, group: int, first: int, start: int, stop: int, columns: ColumnNames
) -> Iterator[ParquetRow]:
    names = [name for name in (columns.bytes, columns.uri, columns.id) if name]
    index = first
    for batch in file.iter_batches(max(1, min(stop - start, 256)), row_groups=[group], columns=names):
        low, high = max(start - index, 0), min(stop - index, batch.num_rows)
        if low < high:
            yield from _rows(batch.slice(low, high - low), index + low, columns)
        index += batch.num_rows
        if index >= stop:
            return


def _rows(batch: pa.RecordBatch, first: int, columns: ColumnNames) -> Iterator[ParquetRow]:
    nothing: list[Any] = [None] * batch.num_rows

    def values(name: str) -> list[Any]:
        return batch.column(name).to_pylist() if name else nothing

    held, uris, ids = values(columns.bytes), values(columns.uri), values(columns.id)
    for offset, (content, uri, image_id) in enumerate(zip(held, uris, ids, strict=True)):
        if isinstance(content, dict):
            content, uri = content["bytes"], uri or content.get("path")
        yield ParquetRow(first + offset, _text(image_id), content, _text(uri))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _choose(schema: pa.Schema, asked: ColumnNames, uri: str) -> ColumnNames:
    """The names of the columns to read; empty for one that is absent."""
    names, default = set(schema.names), ColumnNames()
    for name, usual in ((asked.bytes, default.bytes), (asked.uri, default.uri), (asked.id, default.id)):
        if name != usual and name not in names:
            raise InputError(f"{stored_uri(uri)} has no column {name!r}: {_columns_of(schema)}")
    held = asked.bytes if asked.bytes in names else ""
    if not held and HUGGING_FACE_COLUMN in names and _holds_bytes(schema.field(HUGGING_FACE_COLUMN).type):
        held = HUGGING_FACE_COLUMN
    if held and not _holds_bytes(schema.field(held).type):
        raise InputError(
            f"{stored_uri(uri)} holds {schema.field(held).type} in {held!r}, not bytes: name another column "
            "with --bytes-column"
        )
    located = asked.uri if asked.uri in names else ""
    if not held and not located:
        raise InputError(
            f"{stored_uri(uri)} has neither a {asked.bytes!r} nor a {asked.uri!r} column: "
            f"{_columns_of(schema)}; name one with --bytes-column or --uri-column"
        )
    return ColumnNames(held, located, asked.id if asked.id in names else "")


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in checks) or str(kind) == "binary_view"


def _columns_of(schema: pa.Schema) -> str:
    return f"its columns are {', '.join(schema.names) or 'none'}"
