"""The stored plan and what it leaves to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fastsam_batch.corpus.plan import (
    PendingRow,
    images_planned,
    pending,
    plan_files,
    planned,
    read_plans,
    unplanned,
    write_plan,
)
from fastsam_batch.corpus.schema import contract
from fastsam_batch.errors import InputError
from fastsam_batch.sources.base import ImageRef, PlanRow
from fastsam_batch.sources.names import unit_prefix
from fastsam_batch.storage import filesystem

FILES = PlanRow(
    "files-000000000",
    "",
    "members",
    0,
    2,
    2,
    None,
    (ImageRef("a.jpg", "/x/a.jpg"), ImageRef("ü #%.jpg", "/x/ü #%.jpg")),
)
ROWS = PlanRow("p-1a2b3c4d-000000004", "p.parquet", "rows", 4, 8, 4, 1234)
TAR = PlanRow("t-1a2b3c4d", "t.tar", "stream", 0, None, 4, 999)
PART = PlanRow("t-1a2b3c4d", "t.tar", "stream", 0, 6, 4, 999)


def receipts(corpus, *units, last=()):
    folder = corpus / "receipts"
    folder.mkdir(exist_ok=True)
    for unit in units:
        whole = dict.fromkeys(contract("receipt")["required"])
        (folder / f"{unit}.json").write_text(json.dumps({**whole, "unit_id": unit, "last": unit in last}))


def test_plans_are_read_as_they_were_written(tmp_path):
    write_plan(str(tmp_path), 1, [FILES, ROWS])
    write_plan(str(tmp_path), 2, [TAR, replace(TAR, unit_id="u-1a2b3c4d", images=9)])
    assert read_plans(str(tmp_path)) == ([FILES, ROWS, TAR, replace(TAR, unit_id="u-1a2b3c4d", images=9)], 2)
    write_plan(str(tmp_path), 3, [replace(TAR, shard_size=1000)])  # put back whole: its later row is the one
    assert read_plans(str(tmp_path))[0][2:] == [
        replace(TAR, shard_size=1000),
        replace(TAR, unit_id="u-1a2b3c4d", images=9),
    ]
    assert read_plans(str(tmp_path), members=False)[0][0] == replace(FILES, members=())


def test_a_plan_holds_no_secrets(tmp_path):
    signed = ImageRef("a.jpg", "https://user:secret@host/a.jpg?X-Signature=secret")
    write_plan(str(tmp_path), 1, [replace(FILES, members=(signed,))])
    (row,), _ = read_plans(str(tmp_path))
    assert row.members == (ImageRef("a.jpg", "https://host/a.jpg"),)


def test_a_plan_from_before_images_were_counted_is_read(tmp_path):
    write_plan(str(tmp_path), 1, [FILES, TAR])
    path = tmp_path / "plan" / "0001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["images"]), path)
    assert read_plans(str(tmp_path)) == ([FILES, TAR], 1)


def test_no_plan_is_an_empty_one(tmp_path):
    assert read_plans(str(tmp_path / "none")) == ([], 0)


def test_planned_tells_a_source_what_is_there():
    found = planned([FILES, ROWS, PART])
    assert found.members == {"a.jpg", "ü #%.jpg"}
    assert found.stops == {"p.parquet": 8, "t.tar": 6}
    assert found.sizes == {"p.parquet": 1234, "t.tar": 999}
    assert planned([PART, TAR]).stops == {"t.tar": None}


def test_images_planned_are_counted_where_they_can_be():
    assert images_planned([FILES, ROWS, PART]) == 2 + 4 + 6
    assert images_planned([FILES, TAR]) is None
    assert images_planned([FILES, replace(TAR, images=9)]) == 2 + 9
    assert images_planned([]) == 0


def test_units_with_a_receipt_are_done(tmp_path):
    receipts(tmp_path, "files-000000000")
    assert pending(str(tmp_path), [FILES, ROWS]) == ([PendingRow(ROWS)], 1)


@pytest.mark.parametrize(
    ("row", "done", "last", "left"),
    [
        (TAR, [], [], []),
        (TAR, [0, 4], [], [0, 4]),
        (TAR, [0, 4, 8], [8], None),
        (TAR, [0, 8], [8], [0, 8]),  # the last is there, one before it is missing
        (TAR, [4], [4], [4]),
        (PART, [0, 4], [4], None),
        (PART, [0], [], [0]),
    ],
)
def test_a_stream_is_done_with_its_last_unit_and_all_before(tmp_path, row, done, last, left):
    names = [f"t-1a2b3c4d-{start:09d}" for start in done]
    receipts(tmp_path, *names, "other-00000000-000000000", last=[f"t-1a2b3c4d-{start:09d}" for start in last])
    rest, count = pending(str(tmp_path), [row, replace(FILES, unit_id="other-00000000-000000000")])
    assert count == len(done) + 1
    if left is None:
        assert rest == []
    else:
        assert rest == [PendingRow(row, frozenset(f"t-1a2b3c4d-{start:09d}" for start in left))]


def test_a_damaged_receipt_is_named(tmp_path):
    receipts(tmp_path, "t-1a2b3c4d-000000000")
    (tmp_path / "receipts" / "t-1a2b3c4d-000000000.json").write_text("{")
    with pytest.raises(InputError, match=r"t-1a2b3c4d-000000000\.json: a damaged receipt"):
        pending(str(tmp_path), [TAR])


def test_a_damaged_plan_is_named(tmp_path):
    write_plan(str(tmp_path), 1, [FILES])
    write_plan(str(tmp_path), 2, [TAR])
    path = tmp_path / "plan" / "0002.parquet"
    for damaged in (b"x", path.read_bytes()[:-40]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"plan/0002\.parquet: damaged .*put it back from a copy"):
            read_plans(str(tmp_path))
    pq.write_table(pq.read_table(tmp_path / "plan" / "0001.parquet").drop_columns(["unit_id"]), path)
    with pytest.raises(InputError, match=r"plan/0002\.parquet: damaged"):
        read_plans(str(tmp_path))


def test_a_receipt_that_no_stored_plan_names_is_refused(tmp_path):
    """Else its name would be given to new images, which would then count as done."""
    receipts(tmp_path, "files-000000000", "t-1a2b3c4d-000000004")
    assert unplanned([FILES, TAR], ["files-000000000", "t-1a2b3c4d-000000004"]) == []
    with pytest.raises(InputError, match=r"receipts/files-000000000\.json is of a unit that no file in plan/ names"):
        pending(str(tmp_path), [TAR], [FILES])
    with pytest.raises(InputError, match="t-1a2b3c4d-000000004"):
        pending(str(tmp_path), [FILES])


def test_shards_whose_units_would_have_one_name_are_refused(tmp_path):
    rows = [PlanRow(unit_prefix(key), key, "stream", 0, None, 4, 1) for key in ("乪仙.tar", "a.tar", "仦伊.tar")]
    with pytest.raises(InputError, match=r"the shards 乪仙\.tar and 仦伊\.tar would have units of one name: rename"):
        pending(str(tmp_path), rows[:2], rows[2:])
    assert len(pending(str(tmp_path), rows[:2])[0]) == 2


def test_the_ten_thousandth_plan_comes_last(tmp_path):
    (tmp_path / "plan").mkdir()
    for name in ("10000", "0002", "1001", "9999"):
        (tmp_path / "plan" / f"{name}.parquet").touch()
    fs, root = filesystem(tmp_path)
    assert [Path(path).stem for path in plan_files(fs, root)] == ["0002", "1001", "9999", "10000"]


def test_a_plan_of_many_units_is_stored_and_read_some_at_a_time(tmp_path):
    """Arrow writes more than 2 GiB of members' URIs in one row group, and reads no such group again."""
    rows = [
        PlanRow(f"unit-{number:06d}", "", "members", 0, 1, 1, members=(ImageRef(f"{number}.jpg", f"/x/{number}.jpg"),))
        for number in range(5000)
    ]
    write_plan(str(tmp_path), 1, rows)
    assert pq.ParquetFile(tmp_path / "plan" / "0001.parquet").num_row_groups == 3
    assert read_plans(str(tmp_path)) == (rows, 1)
    as_before = pq.read_table(tmp_path / "plan" / "0001.parquet")
    pq.write_table(as_before, tmp_path / "plan" / "0001.parquet", row_group_size=len(rows))
    assert read_plans(str(tmp_path)) == (rows, 1)


def test_a_file_in_the_place_of_the_plans_is_told(tmp_path):
    (tmp_path / "plan").write_text("in the way")
    with pytest.raises(InputError, match=r"^--output .*: cannot be written \(.*plan/0001.parquet"):
        write_plan(str(tmp_path), 1, [FILES])
