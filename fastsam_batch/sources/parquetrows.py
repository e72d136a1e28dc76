"""Row ranges of one Parquet file: which columns hold the images, and no more read than is needed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice
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
_IDS_TOGETHER = 8192
_BATCH_BYTES, _BATCH_ROWS = 8 * 1024**2, 256  # decoded at once, at most
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


def read_ids(uri: str, columns: ColumnNames, use: Callable[[Iterator[str]], T]) -> T:
    """What `use` makes of the ids of the rows that have one, as text. Raises as `read_footer`.

    Reads their column alone, and holds some of it at a time; `use` is called anew where the store failed.
    """

    def read() -> T:
        with _opened(uri) as file:
            batches = file.iter_batches(_IDS_TOGETHER, columns=[columns.id])
            values = (value for batch in batches for value in batch.column(0).to_pylist())
            return use(text for value in values if (text := _text(value)) is not None)

    return _readable(uri, read)


def _row_bytes(footer: pq.FileMetaData) -> int:
    # Of all columns: in a damaged footer, pyarrow's view of a single column ends the process.
    groups = (footer.row_group(number) for number in range(footer.num_row_groups))
    return max(map(_mean_bytes, groups), default=0)


def _mean_bytes(group: pq.RowGroupMetaData) -> int:
    size: int = group.total_byte_size // max(group.num_rows, 1)
    return size


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
    """Rows [start, stop), as `RowReader.read`."""
    with RowReader(columns) as reader:
        return reader.read(uri, start, stop)


class RowReader:
    """Rows of Parquet files, range after range; to be used in a `with`.

    A row group can be read from its beginning only. It is kept open, and the next range goes on from where the last
    one ended: ranges in order cost one reading of the file. Rows between them are passed over, whole row groups unread.
    """

    def __init__(self, columns: ColumnNames) -> None:
        self._columns = columns
        self._opened = ExitStack()
        self._uri: str | None = None
        self._firsts: list[int] = []  # number of each row group's first row
        self._stream: Iterator[ParquetRow] | None = None
        self._next = 0  # number of the row that the stream gives next
        self._broken: tuple[str, int, BaseException] | None = None  # a row that cannot be read, and why

    def __enter__(self) -> RowReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, uri: str, start: int, stop: int) -> list[ParquetRow]:
        """Rows [start, stop), fewer at the file's end, from the row groups and columns that hold them.

        Raises OutageError, or what is wrong with the file. After either, the next range begins anew.
        """
        import pyarrow as pa

        rows: list[ParquetRow] = []
        try:
            for row in islice(self._rows_from(uri, start), stop - start):
                rows.append(row)
                self._next = row.number + 1
        except BaseException as error:
            at_fault = isinstance(error, (OSError, ValueError, pa.ArrowException)) and not isinstance(
                error, OutageError
            )
            if at_fault and uri == self._uri:  # the file's own fault, and not in what is read to open it
                self._broken = uri, start + len(rows), error
            self._close()
            raise
        return rows

    def _rows_from(self, uri: str, start: int) -> Iterator[ParquetRow]:
        if uri != self._uri:
            self._open(uri)
        group = self._group_of(start)
        if self._broken:
            where, row, error = self._broken
            if where == uri and row <= start and self._group_of(row) == group:
                raise error  # what lies before cannot be read: no need to try that once more for each range
        ahead = start - self._next
        if self._stream is None or ahead < 0 or (ahead > 0 and self._group_of(self._next) != group):
            self._stream = _rows_from(self._file, self._firsts, start, self._chosen)
        else:
            next(islice(self._stream, ahead, ahead), None)
        self._next = start
        return self._stream

    def _open(self, uri: str) -> None:
        self._close()
        file = self._opened.enter_context(_opened(uri))
        self._file, self._chosen = file, _choose(file.schema_arrow, self._columns, uri)
        sizes = (file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups))
        self._firsts = list(accumulate(sizes, initial=0))[:-1]
        self._uri = uri

    def _close(self) -> None:
        self._uri = self._stream = None
        self._opened.close()

    def _group_of(self, row: int) -> int:
        return bisect_right(self._firsts, row) - 1


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    import pyarrow.parquet as pq

    fs, path = open_path(uri)
    with open_whole(fs, path) as file:
        # Read as a stream, not a whole column chunk at once: a row group may be larger than memory.
        yield pq.ParquetFile(file, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False)


def _rows_from(file: pq.ParquetFile, firsts: Sequence[int], start: int, columns: ColumnNames) -> Iterator[ParquetRow]:
    """The rows from `start` to the file's end; what is before in its row group is passed over as Arrow holds it."""
    names = [name for name in (columns.bytes, columns.uri, columns.id) if name]
    for group, first in enumerate(firsts):
        of_group = file.metadata.row_group(group)
        stop = first + of_group.num_rows
        if stop <= start:
            continue
        for batch in file.iter_batches(_batch_rows(of_group), row_groups=[group], columns=names):
            passed = min(max(start - first, 0), batch.num_rows)
            yield from _rows(batch.slice(passed, stop - first - passed), first + passed, columns)
            first += batch.num_rows
        if first < stop:
            raise ValueError(f"row group {group} ends {stop - first} rows before its footer says so")


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    """Told by the file alone, so that what a damaged one still gives does not depend on the ranges asked for."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(_mean_bytes(group), 1)))


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
    """None for none, and for an empty one."""
    if value in (None, "", b""):
        return None
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _choose(schema: pa.Schema, asked: ColumnNames, uri: str) -> ColumnNames:
    """The names of the columns to read; empty for one that is absent, or holds nothing but nulls by its type."""
    import pyarrow as pa

    for name in (asked.bytes, asked.uri, asked.id, HUGGING_FACE_COLUMN):
        if schema.names.count(name) > 1:
            raise InputError(f"{stored_uri(uri)} has {schema.names.count(name)} columns {name!r}: leave one of them")
    names = {field.name for field in schema if not pa.types.is_null(field.type)}
    default = ColumnNames()
    for name, usual in ((asked.bytes, default.bytes), (asked.uri, default.uri), (asked.id, default.id)):
        if name != usual and name not in schema.names:
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

    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in checks) or str(kind) == "binary_view"


def _columns_of(schema: pa.Schema) -> str:
    return f"its columns are {', '.join(schema.names) or 'none'}"
