"""The stored plan: units keep their names and members for ever, and a rerun knows what is left."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from fastsam_batch.corpus.info import unwritable
from fastsam_batch.corpus.layout import PLAN_FOLDER, RECEIPTS_FOLDER, plan_file, receipt_file
from fastsam_batch.corpus.receipts import read_receipt
from fastsam_batch.errors import InputError, first_line
from fastsam_batch.read_each import read_each
from fastsam_batch.signatures import unsigned
from fastsam_batch.sources.base import ImageRef, Planned, PlanRow
from fastsam_batch.storage import create_new, filesystem, join, list_files, list_names, read_whole, redact

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ROWS_TOGETHER = 2048  # of a plan: their members' URIs are far from 2 GiB
_MEMBERS_TOGETHER = 2**16  # in a row group: who looks for an image reads those alone that can name it
PLAN_SCHEMA = pa.schema(
    [
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("stop", pa.int64()),
        pa.field("unit_size", pa.int64(), nullable=False),
        pa.field("shard_size", pa.int64()),
        pa.field("members", pa.list_(pa.struct([("image_id", pa.string()), ("uri", pa.string())]))),
        pa.field("images", pa.int64()),
    ]
)


@dataclass(frozen=True)
class PendingRow:
    """A row of the plan with units left to do; `done` are those of its units that have a receipt.

    `only`: no other units are wanted of it, and at least one of these is not done.
    """

    row: PlanRow
    done: frozenset[str] = frozenset()
    only: frozenset[str] | None = None


def plan_files(fs: AbstractFileSystem, root: str) -> list[str]:
    """Paths of a corpus's plans in the order of their numbers, of which the ten-thousandth has a digit more."""
    return sorted(list_files(fs, join(root, PLAN_FOLDER), ".parquet"), key=lambda path: (len(path), path))


def read_plans(corpus_uri: str, members: bool = True) -> tuple[list[PlanRow], int]:
    """All rows planned so far, in order, and the number of plan files. Raises InputError where one is damaged.

    Where a shard was planned anew, since a mended file was put in its place, its later row is the one.
    Without `members` their lists, which are nearly all of a plan, are not decoded and the rows have none.
    """
    fs, root = filesystem(corpus_uri)
    paths = plan_files(fs, root)
    columns = None if members else [name for name in PLAN_SCHEMA.names if name != "members"]
    rows: list[PlanRow] = []
    for path in paths:
        data = read_whole(fs, path)
        try:
            for batch in plan_batches(data, columns):
                rows.extend(_rows(batch))
        except (pa.ArrowException, OSError, TypeError, KeyError) as error:
            raise InputError(
                f"{redact(corpus_uri)}/{PLAN_FOLDER}/{path.rpartition('/')[2]}: damaged ({first_line(error)}); "
                "put it back from a copy, or use another --output"
            ) from error
    return _latest(rows), len(paths)


def _latest(rows: Iterable[PlanRow]) -> list[PlanRow]:
    return list({(row.unit_id, row.start): row for row in rows}.values())


def write_plan(corpus_uri: str, number: int, rows: Sequence[PlanRow]) -> None:
    """Store the `number`-th plan, counted from 1, before any of its work starts. URIs lose their secrets.

    Raises InputError where another job has stored that plan meanwhile, or the output cannot be written, OutageError
    where its store fails.
    """
    fs, root = filesystem(corpus_uri)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, PLAN_SCHEMA, compression="zstd") as writer:
        for together in _row_groups(rows):
            writer.write_table(_table(together))
    try:
        is_new = create_new(fs, join(root, plan_file(number)), buffer.getvalue())
    except OSError as error:
        raise unwritable(corpus_uri, error) from error
    if not is_new:
        raise InputError(
            f"{redact(corpus_uri)}: another job has just added {plan_file(number)}; run the same command again"
        )


def _row_groups(rows: Iterable[PlanRow]) -> Iterator[list[PlanRow]]:
    together: list[PlanRow] = []
    members = 0
    for row in rows:
        together.append(row)
        members += len(row.members)
        if len(together) == _ROWS_TOGETHER or members >= _MEMBERS_TOGETHER:
            yield together
            together, members = [], 0
    if together:
        yield together


def planned(rows: Iterable[PlanRow], unit_ids: Iterable[str] | None = None) -> Planned:
    """What the rows hold, as a source needs to know to plan only what is new; `unit_ids` are the committed units'."""
    done = None if unit_ids is None else units_by_prefix(unit_ids)
    untouched: set[str] = set()
    members: set[str] = set()
    stops: dict[str, int | None] = {}
    sizes: dict[str, int] = {}
    for row in rows:
        members.update(member.image_id for member in row.members)
        if row.kind != "members":
            before = stops.get(row.shard, 0)
            stops[row.shard] = None if row.stop is None or before is None else max(before, row.stop)
        if row.shard_size is not None:
            sizes[row.shard] = row.shard_size
        if done is not None and row.kind == "stream" and (row.start, row.stop) == (0, None) and row.unit_id not in done:
            untouched.add(row.shard)
    return Planned(frozenset(members), stops, sizes, frozenset(untouched))


def images_planned(rows: Iterable[PlanRow]) -> int | None:
    """How many images the rows hold; None with a shard that is streamed to an unknown end."""
    total = 0
    for row in rows:
        if row.known_images is None:
            return None
        total += row.known_images
    return total


def unplanned(rows: Iterable[PlanRow], unit_ids: Iterable[str]) -> list[str]:
    """Those of the units, sorted, that no row of the plan names: a file of it is gone."""
    named: dict[bool, set[str]] = {True: set(), False: set()}
    for row in rows:
        named[row.kind == "stream"].add(row.unit_id)
    return sorted(
        unit_id for unit_id in unit_ids if unit_id not in named[False] and unit_id.rpartition("-")[0] not in named[True]
    )


def refuse_unplanned(corpus_uri: str, rows: Iterable[PlanRow], unit_ids: Iterable[str]) -> None:
    """Raise InputError where a committed unit is of no stored row."""
    if lost := unplanned(rows, unit_ids):
        raise InputError(
            f"{redact(corpus_uri)}: {receipt_file(lost[0])} is of a unit that no file in {PLAN_FOLDER}/ names; put "
            f"{PLAN_FOLDER}/ back from a copy, or use another --output"
        )


def committed_units(corpus_uri: str) -> set[str]:
    """The units that have a receipt."""
    fs, root = filesystem(corpus_uri)
    names = list_names(fs, join(root, RECEIPTS_FOLDER))
    return {name.removesuffix(".json") for name in names if name.endswith(".json")}


def pending(
    corpus_uri: str, rows: Sequence[PlanRow], new: Sequence[PlanRow] = (), receipts: Set[str] | None = None
) -> tuple[list[PendingRow], int]:
    """Rows that still have work, and the number of units that have a receipt already. `rows` are stored, `new` not yet.

    `receipts` are the committed units, where they are known. A streamed shard is finished when the receipt of its last
    unit says so and none before it is missing; for that only one receipt a shard is read. Raises InputError where a
    receipt is of no stored row, or units of two shards have one name.
    """
    _refuse_one_name([*rows, *new])
    fs, root = filesystem(corpus_uri)
    receipts = committed_units(corpus_uri) if receipts is None else receipts
    refuse_unplanned(corpus_uri, rows, receipts)
    by_prefix = units_by_prefix(receipts)

    def left(row: PlanRow) -> PendingRow | None:
        if row.kind != "stream":
            return None if row.unit_id in receipts else PendingRow(row)
        done = stream_units(row, by_prefix.get(row.unit_id, []))
        if not done:
            return PendingRow(row)
        if none_is_missing(row, done) and read_receipt(fs, join(root, receipt_file(done[-1])))["last"]:
            return None
        return PendingRow(row, frozenset(done))

    rest = [row for row in read_each(left, _latest([*rows, *new])) if row is not None]
    return rest, len(receipts)


def _refuse_one_name(rows: Iterable[PlanRow]) -> None:
    """Raise InputError where units of two shards have one name, of which 32 bits tell apart what is not ASCII."""
    shards: dict[str, str] = {}
    for row in rows:
        first = shards.setdefault(row.unit_id, row.shard)
        if first != row.shard:
            raise InputError(f"the shards {first} and {row.shard} would have units of one name: rename one of the two")


def units_by_prefix(unit_ids: Iterable[str]) -> dict[str, list[str]]:
    """The units of each streamed shard, by the prefix of their names."""
    by_prefix: dict[str, list[str]] = {}
    for unit_id in unit_ids:
        by_prefix.setdefault(unit_id.rpartition("-")[0], []).append(unit_id)
    return by_prefix


def stream_units(row: PlanRow, unit_ids: Iterable[str]) -> list[str]:
    """Those of the units named after a streamed shard that are this row's, in order."""
    return sorted(
        unit_id
        for unit_id in unit_ids
        if row.start <= _start(unit_id) and (row.stop is None or _start(unit_id) < row.stop)
    )


def none_is_missing(row: PlanRow, units: Sequence[str]) -> bool:
    """True where the units of a streamed row, in order, are all from its first to the last of them."""
    return _start(units[-1]) - row.start == (len(units) - 1) * row.unit_size


def _start(unit_id: str) -> int:
    return int(unit_id.rpartition("-")[2])


def plan_batches(data: bytes, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a plan's bytes, some at a time: Arrow reads no more than 2 GiB of nested texts at once."""
    yield from pq.ParquetFile(pa.BufferReader(data)).iter_batches(_ROWS_TOGETHER, columns=columns)


def _table(rows: Sequence[PlanRow]) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in PLAN_SCHEMA.names if name != "members"}
    columns["members"] = [
        [{"image_id": member.image_id, "uri": unsigned(member.uri)} for member in row.members] or None for row in rows
    ]
    return pa.table(columns, schema=PLAN_SCHEMA)


def _rows(batch: pa.RecordBatch) -> Iterable[PlanRow]:
    for row in batch.to_pylist():
        members = tuple(ImageRef(**member) for member in row.pop("members", None) or ())
        yield PlanRow(**row, members=members)
