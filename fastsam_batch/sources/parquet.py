"""Parquet holding image bytes, or the URIs of images: one unit a range of rows."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import explain, retry
from fastsam_batch.sources.base import UNIT_BYTES, EncodedImage, ImageRef, Planned, PlanRow, Read, Source, UnitBytes
from fastsam_batch.sources.fetch import THREADS, fetch_images, refusal, stored_uri
from fastsam_batch.sources.listing import Entry, Listing
from fastsam_batch.sources.named import UnknownSchemeError, resolve
from fastsam_batch.sources.names import shard_key, suffix, unit_name, unit_prefix
from fastsam_batch.sources.parquetids import refuse_repeated
from fastsam_batch.sources.parquetrows import ColumnNames, Footer, ParquetRow, RowReader, read_footer
from fastsam_batch.sources.tar import refuse_changed


def is_parquet(key: str) -> bool:
    """True for a file name that a Parquet shard would have, and no writer's scratch: Spark's tasks leave files in
    `_temporary/` that are not theirs to keep, and pyarrow and Hive read nothing in folders of such names.
    """
    return suffix(key) == ".parquet" and not any(part.startswith("_") for part in key.split("/")[:-1])


class ParquetSource(Source):
    """Rows of Parquet files. `image_id` is the id column's value, else `<file key>#<row>`.

    Bytes come from the bytes column (binary, or a struct with `bytes` and `path` as Hugging Face writes
    it); where they are null or the column is absent, from the object that the uri column names.
    """

    name = "Parquet files"

    def __init__(self, listing: Listing, columns: ColumnNames, record_unreachable: bool) -> None:
        self._listing = listing
        self._columns = columns
        self._record_unreachable = record_unreachable

    def plan(self, planned: Planned, unit_size: int, limit: int | None) -> Iterator[PlanRow]:
        """One row a unit of up to `unit_size` rows and about UNIT_BYTES, from the footers.

        Where there is anything new, all files' ids are read and compared. Raises InputError besides for an id
        given twice.
        """
        with_ids: list[str] = []
        new = list(self._new(planned, unit_size, limit, with_ids))
        if new:
            refuse_repeated(with_ids, self._columns)
        yield from new

    def _new(self, planned: Planned, unit_size: int, limit: int | None, with_ids: list[str]) -> Iterator[PlanRow]:
        self.check(planned)
        left, empty = limit, True
        for entry, (rows, has_ids, row_bytes) in self._footers():
            empty = empty and not rows
            if has_ids:
                with_ids.append(self._listing.uri_of(entry.key))
            key = shard_key(entry.key)
            start = planned.stops.get(key, 0) or 0
            end = rows if left is None else min(rows, start + left)
            step = min(unit_size, max(UNIT_BYTES // max(row_bytes, 1), 1))
            for first in range(start, end, step):
                stop = min(first + step, end)
                unit_id = unit_name(unit_prefix(key), first)
                yield PlanRow(unit_id, key, "rows", first, stop, unit_size, entry.size)
            if left is not None:
                left -= max(0, end - start)
                if left == 0:
                    return
        if empty:
            raise InputError(f"{self._listing} holds no rows")

    def check(self, planned: Planned) -> None:
        """As `Source.check`."""
        refuse_changed(self._listing, planned)

    def read(self, row: PlanRow, done: Collection[str]) -> Iterator[UnitBytes]:
        """The row's one unit, unless it is done."""
        with self.reader() as read:
            yield from read(row, done)

    @contextmanager
    def reader(self) -> Iterator[Read]:
        """As `Source.reader`: each part of a file is read once, where `read` costs all of the row group before it."""
        with RowReader(self._columns) as rows:
            yield functools.partial(self._read, rows)

    def _read(self, reader: RowReader, row: PlanRow, done: Collection[str]) -> Iterator[UnitBytes]:
        if row.unit_id in done:
            return
        uri = self._listing.uri_of(row.shard)
        stop = row.start if row.stop is None else row.stop
        import pyarrow as pa

        try:
            rows = retry(functools.partial(reader.read, uri, row.start, stop))
        except OutageError as error:
            raise OutageError(f"{stored_uri(uri)}: {explain(error)}") from error
        except (OSError, ValueError, pa.ArrowException) as error:  # the file's own fault: it fails its own images
            if refused := refusal(uri, error):
                raise OutageError(refused) from error
            kind = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
            message = f"{stored_uri(uri)} could not be read: {explain(error)}"
            images = [
                EncodedImage(f"{row.shard}#{index}", stored_uri(uri, f"#{index}"), None, kind, message)
                for index in range(row.start, stop)
            ]
        else:
            images = _encoded(rows, row.shard, uri, self._record_unreachable)
        yield UnitBytes(row.unit_id, row.shard, False, tuple(images))

    def _footers(self) -> Iterator[tuple[Entry, Footer]]:
        """Files with their footers, read a few at a time and no further than asked for."""
        entries = (entry for entry in self._listing.take() if is_parquet(entry.key))

        def footer(entry: Entry) -> Footer:
            return read_footer(self._listing.uri_of(entry.key), self._columns)

        with ThreadPoolExecutor(THREADS) as pool:
            while some := list(islice(entries, 4 * THREADS)):
                yield from zip(some, pool.map(footer, some), strict=True)


def _encoded(rows: list[ParquetRow], key: str, uri: str, record_unreachable: bool) -> list[EncodedImage]:
    """The rows as images, those that only name a URI fetched from there."""
    refs: dict[int, ImageRef] = {}
    known: dict[int, EncodedImage] = {}
    for row in rows:
        if row.data is None and row.uri:
            image_id = _image_id(row, key)
            try:
                refs[row.number] = ImageRef(image_id, resolve(row.uri, uri))
            except UnknownSchemeError as error:
                named = stored_uri(row.uri)
                known[row.number] = EncodedImage(image_id, named, None, "unreadable", f"the row {error}")
    read = fetch_images(list(refs.values()), record_unreachable=record_unreachable)
    known.update(zip(refs, read, strict=True))
    return [known.get(row.number) or _from_bytes(row, key, uri) for row in rows]


def _from_bytes(row: ParquetRow, key: str, uri: str) -> EncodedImage:
    image_id, row_uri = _image_id(row, key), stored_uri(uri, f"#{row.number}")
    if row.data is None:
        return EncodedImage(image_id, row_uri, None, "missing_bytes", f"{row_uri} holds no bytes and no URI")
    return EncodedImage(image_id, row_uri, row.data)


def _image_id(row: ParquetRow, key: str) -> str:
    return f"{key}#{row.number}" if row.image_id is None else row.image_id
