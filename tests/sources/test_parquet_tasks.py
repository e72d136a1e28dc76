"""Units of Parquet files read one after another: about one reading of a file, whatever its row groups."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sources.counted import CountedFile
from sources.flaky import FlakyFileSystem
from sources.made_inputs import plan, write_parquet

from fastsam_batch.errors import OutageError
from fastsam_batch.outage import ATTEMPTS
from fastsam_batch.sources import open_source, parquetrows
from fastsam_batch.sources.base import PlanRow, Source, UnitBytes
from fastsam_batch.sources.tasks import MOST_TASKS, MOST_TASKS_OF_NAMES, tasks

ROWS, ROW_BYTES = 192, 50_000


def noise(rows: int = ROWS, row_bytes: int = ROW_BYTES) -> list[bytes]:
    generator = np.random.default_rng(0)
    return [generator.bytes(row_bytes) for _ in range(rows)]


def write(path: Path, held: Sequence[bytes], row_group_size: int) -> Path:
    columns = {"image_id": [f"{number:04d}" for number in range(len(held))], "bytes": list(held)}
    pages = {"data_page_size": 2 * ROW_BYTES, "write_batch_size": 2}
    return write_parquet(path, columns, row_group_size=row_group_size, use_dictionary=False, **pages)


def read_run(source: Source, rows: Sequence[PlanRow]) -> list[UnitBytes]:
    """As a task reads a run."""
    with source.reader() as read:
        return [unit for row in rows for unit in read(row, ())]


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the files were large."""
    monkeypatch.setattr(parquetrows, "_READ_AHEAD_BYTES", 64 * 1024)
    monkeypatch.setattr(parquetrows, "_BATCH_BYTES", 4 * ROW_BYTES)


@pytest.mark.parametrize("row_group_size", [ROWS, 50, 8, 5])
@pytest.mark.usefixtures("small_reads")
def test_a_run_costs_one_reading_of_its_file(tmp_path, row_group_size):
    held = noise()
    path = write(tmp_path / "p.parquet", held, row_group_size)
    source = open_source(f"counted://{path}")
    rows = plan(source, unit_size=8)
    CountedFile.total = 0
    found = read_run(source, rows)
    assert CountedFile.total < 1.1 * path.stat().st_size
    assert [unit.unit_id for unit in found] == [row.unit_id for row in rows]
    assert [image.data for unit in found for image in unit.images] == held


@pytest.mark.parametrize(("row_group_size", "groups_read"), [(24, 2), (8, 2)])
@pytest.mark.usefixtures("small_reads")
def test_row_groups_of_finished_units_are_not_read(tmp_path, row_group_size, groups_read):
    held = noise()
    path = write(tmp_path / "p.parquet", held, row_group_size)
    source = open_source(f"counted://{path}")
    rows = plan(source, unit_size=8)
    left = [rows[1], rows[-1]]
    CountedFile.total = 0
    found = read_run(source, left)
    assert CountedFile.total < 1.1 * groups_read * row_group_size * ROW_BYTES
    assert [image.data for unit in found for image in unit.images] == held[8:16] + held[-8:]


@pytest.mark.parametrize("row_group_size", [1, 7, 10, 40, 100])
@pytest.mark.parametrize("seed", range(4))
def test_a_unit_is_the_same_in_a_run_of_any_units(tmp_path, monkeypatch, row_group_size, seed):
    monkeypatch.setattr(parquetrows, "_BATCH_ROWS", 3)
    chosen = random.Random(seed)
    source = open_source(str(write(tmp_path / "p.parquet", noise(100, 20), row_group_size)))
    rows = plan(source, unit_size=chosen.choice([1, 4, 30]))
    rows = chosen.sample(rows, chosen.randint(1, len(rows)))
    if seed % 2:
        rows.sort(key=lambda row: row.start)
    assert read_run(source, rows) == [unit for row in rows for unit in source.read(row, ())]


@pytest.mark.usefixtures("small_reads")
def test_damage_fails_what_lies_behind_it_in_its_row_group_at_the_cost_of_one_reading(tmp_path):
    held = noise()
    path = write(tmp_path / "p.parquet", held, 96)
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    # At least one page's header lies in what is destroyed.
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[middle : middle + 5 * ROW_BYTES] = b"\xff" * (5 * ROW_BYTES)
    path.write_bytes(data)
    source = open_source(f"counted://{path}")
    rows = plan(source, unit_size=8)
    CountedFile.total = 0
    found = read_run(source, rows)
    assert CountedFile.total < 1.3 * path.stat().st_size
    kinds = [{image.error_kind for image in unit.images} for unit in found]
    failed = kinds.index({"unreadable"})
    assert 2 < failed < 10
    assert kinds == [{None}] * failed + [{"unreadable"}] * (12 - failed) + [{None}] * 12
    assert [unit for row in rows for unit in source.read(row, ())] == found


@pytest.mark.usefixtures("small_reads")
def test_a_run_goes_on_after_an_outage(tmp_path):
    held = noise()
    path = write(tmp_path / "p.parquet", held, ROWS)
    FlakyFileSystem("flaky").pipe_file("/p.parquet", path.read_bytes())
    source = open_source("flaky://p.parquet")
    rows = plan(source, unit_size=48)
    FlakyFileSystem.failures["/p.parquet"] = [(ConnectionResetError(), after * ROW_BYTES) for after in (60, 30, 110)]
    assert [image.data for unit in read_run(source, rows) for image in unit.images] == held

    FlakyFileSystem.failures["/p.parquet"] = [(ConnectionResetError(), 80 * ROW_BYTES)] * ATTEMPTS
    with source.reader() as read:
        (first,) = read(rows[0], ())
        with pytest.raises(OutageError, match=r"p\.parquet"):
            list(read(rows[1], ()))
        rest = [unit for row in rows[2:] for unit in read(row, ())]
    assert [image.data for unit in (first, *rest) for image in unit.images] == held[:48] + held[96:]


@pytest.mark.usefixtures("small_reads")
def test_a_file_that_is_back_is_read(tmp_path):
    held = noise(16)
    path = write(tmp_path / "p.parquet", held, 16)
    source = open_source(str(path))
    rows = plan(source, unit_size=8)
    path.rename(tmp_path / "away")
    with source.reader() as read:
        (gone,) = read(rows[0], ())
        (tmp_path / "away").rename(path)
        (back,) = read(rows[1], ())
    assert {image.error_kind for image in gone.images} == {"missing"}
    assert [image.data for image in back.images] == held[8:]


def rows_of(shard: str, units: int, *, size: int | None = 10**9, first: int = 0) -> list[PlanRow]:
    starts = range(8 * first, 8 * (first + units), 8)
    return [PlanRow(f"{shard}-{start}", shard, "rows", start, start + 8, 8, size) for start in starts]


def others(kind: str, count: int) -> list[PlanRow]:
    return [PlanRow(f"{kind}-{number}", kind, kind, 0, 8, 8) for number in range(count)]


@pytest.mark.parametrize(
    ("rows", "readers", "lengths"),
    [
        ([], 1, []),
        (rows_of("a", 40), 1, [40]),
        (rows_of("a", 40), 3, [13, 13, 14]),
        (rows_of("a", 40), 1000, [10] * MOST_TASKS),
        (rows_of("a", 2), 1000, [1, 1]),
        (rows_of("a", 40, size=None), 1, [40]),
        (rows_of("a", 40, size=40 * 8 * 100), 1, [2, 3] * (MOST_TASKS_OF_NAMES // 2)),
        (rows_of("a", 9, first=5) + rows_of("b", 5), 2, [9, 5]),
        (rows_of("a", 8) + rows_of("b", 4), 4, [4, 4, 2, 2]),
        (others("stream", 2) + rows_of("a", 3) + others("members", 2), 1, [1, 1, 3, 1, 1]),
    ],
)
def test_tasks(rows, readers, lengths):
    found = tasks(rows, readers)
    assert [row for part in found for row in rows[part]] == rows
    assert sorted(len(rows[part]) for part in found) == sorted(lengths)
    assert all(len({row.shard for row in rows[part]}) == 1 for part in found)
