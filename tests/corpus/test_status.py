"""Status: what plan and receipts tell of a corpus, its rate, and ten thousand receipts at once."""

from __future__ import annotations

import json
import shutil
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from corpus.builtin_corpus import as_if_builtin
from corpus.made_corpus import FINGERPRINT, MadeCorpus, corpus_info, write

from fastsam_batch.cli import main
from fastsam_batch.corpus.plan import write_plan
from fastsam_batch.corpus.status import corpus_status, images_per_hour
from fastsam_batch.errors import InputError
from fastsam_batch.sources.base import ImageRef, PlanRow

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def receipt(unit_id, images=10, seconds=0, failures=None, last=False, attempt=1):
    failures = failures or {}
    return {
        "schema_version": 1, "unit_id": unit_id, "shard": "", "last": last, "images": images,
        "failed": sum(failures.values()), "masks": 3 * images, "failures": failures,
        "files": {kind: {"path": f"{kind}/{unit_id}.parquet", "bytes": 100, "sha256": "0" * 64}
                  for kind in ("masks", "images")},
        "fingerprint": FINGERPRINT, "attempt": attempt, "seconds": 1.0, "stages": {"commit": 0.1},
        "created_at": (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="seconds"),
    }  # fmt: skip


def corpus(uri, rows, receipts):
    write(uri, "corpus.json", json.dumps(corpus_info(None)).encode())
    if rows:
        write_plan(uri, 1, rows)
    for one in receipts:
        write(uri, f"receipts/{one['unit_id']}.json", json.dumps(one).encode())
    return uri


def files(start, stop):
    members = tuple(ImageRef(str(number), f"/x/{number}") for number in range(start, stop))
    return PlanRow(f"files-{start:09d}", "", "members", start, stop, 10, members=members)


def shard(name, stop=None):
    return PlanRow(name, f"{name}.tar", "stream", 0, stop, 10)


def test_units_done_failed_and_left(tmp_path):
    rows = [files(0, 10), files(10, 20), files(20, 23), PlanRow("p-000000000", "p.parquet", "rows", 0, 7, 10)]
    receipts = [receipt("files-000000000", failures={"empty": 2, "corrupt": 1}, attempt=2), receipt("p-000000000", 7)]
    found = corpus_status(corpus(str(tmp_path), rows, receipts))
    assert (found.planned_units, found.units, found.images, found.failed, found.masks) == (4, 2, 17, 3, 51)
    assert found.failures == {"corrupt": 1, "empty": 2}
    assert (found.units_left, found.shards_left, found.images_left, found.estimated) == (2, 0, 13, False)
    assert (found.retried_units, found.bytes, found.finished) == (1, 400, False)


@pytest.mark.parametrize(
    ("rows", "receipts", "shards_left", "images_left", "estimated"),
    [
        ([shard("a")], [], 1, None, True),
        ([shard("a")], [receipt("a-000000000")], 1, None, True),
        ([shard("a")], [receipt("a-000000000"), receipt("a-000000010", 4, last=True)], 0, 0, False),
        ([shard("a")], [receipt("a-000000010", 4, last=True)], 1, None, True),
        ([shard("a", 25)], [receipt("a-000000000")], 1, 15, False),
        (
            [shard("a"), shard("b"), shard("c")],
            [receipt("a-000000000"), receipt("a-000000010", 6, last=True), receipt("b-000000000")],
            2, 16 - 10 + 16, True,
        ),
    ],
)  # fmt: skip
def test_shards(tmp_path, rows, receipts, shards_left, images_left, estimated):
    found = corpus_status(corpus(str(tmp_path), rows, receipts))
    assert (found.shards_left, found.images_left, found.estimated) == (shards_left, images_left, estimated)
    assert found.finished == (shards_left == 0)


def test_the_rate_goes_by_the_newest_receipts_since_the_last_pause():
    steady = [receipt(f"u-{n}", 10, seconds=n) for n in range(100)]
    assert images_per_hour(steady) == 36_000
    assert images_per_hour([receipt("u", 10, seconds=-86_400), *steady]) == 36_000
    slow_then_fast = [receipt(f"s-{n}", 10, seconds=100 * n - 100_000) for n in range(9)] + steady
    assert images_per_hour(slow_then_fast, recent=50) == 36_000
    assert images_per_hour(steady[:1]) is None
    assert images_per_hour([receipt("a"), receipt("b")]) is None
    assert images_per_hour([]) is None


def test_the_time_left(tmp_path):
    receipts = [receipt("files-000000000"), receipt("files-000000010", seconds=36)]
    found = corpus_status(corpus(str(tmp_path), [files(0, 10), files(10, 20), files(20, 30)], receipts))
    assert (found.images_per_hour, found.hours_left) == (1000, 0.01)


def test_commands_tell_that_a_corpus_is_half_done(tmp_path, capsys):
    made = as_if_builtin(str(tmp_path / "corpus"), tmp_path)
    (tmp_path / "classes.yaml").write_text("classes: [{name: thing, texts: [a thing]}]")

    def told():
        found = []
        for command in (
            ["export", "--format", "coco", "--output", str(tmp_path / "coco.json")],
            ["label", "--classes", str(tmp_path / "classes.yaml"), "--output", str(tmp_path / "labels.parquet")],
            ["index"],
            ["search", "--like", "coffee.png#3"],
        ):
            assert main([*command, "--corpus", made.uri]) == 0
            found.append(capsys.readouterr().err)
        return found

    assert not any("not finished" in errors for errors in told())
    write_plan(made.uri, 2, [PlanRow(f"unit-{n:04d}", "x", "rows", 0, 3, 3) for n in (3, 4)])
    assert all("not finished: 2; nothing of them is in this" in errors for errors in told())
    write(made.uri, "plan/0003.parquet", b"no Parquet")
    assert all("0003.parquet: damaged" in errors for errors in told())


def test_the_command(made: MadeCorpus, capsys):
    write_plan(made.uri, 2, [PlanRow(f"unit-{n:04d}", "x", "rows", 0, 3, 3) for n in (3, 4)])
    assert main(["status", "--corpus", made.uri]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    summary = json.loads(last)
    assert (summary["units"], summary["images"], summary["failed"], summary["units_left"]) == (3, 7, 1, 2)
    assert summary["finished"] is False
    assert any(line.startswith("left     6 images in 2 units") for line in lines)
    assert any("1 not_an_image" in line for line in lines)


def test_what_is_no_corpus_or_damaged_is_refused(tmp_path, made: MadeCorpus):
    with pytest.raises(InputError, match="is not a corpus"):
        corpus_status(str(tmp_path))
    for content in (b"{", b"[]", b'{"unit_id": "unit-0001"}'):
        write(made.uri, "receipts/unit-0001.json", content)
        with pytest.raises(InputError, match=r"receipts/unit-0001\.json: a damaged receipt"):
            corpus_status(made.uri)


def test_a_corpus_whose_plan_is_lost_is_not_finished(made: MadeCorpus):
    for plan in (Path(made.uri) / "plan").iterdir():
        plan.unlink()
    with pytest.raises(InputError, match=r"unit-0000\.json is of a unit that no file in plan/ names"):
        corpus_status(made.uri)


@pytest.mark.parametrize("name", ["run[1]", "run*", "run?"])
def test_a_name_that_looks_like_a_pattern(made: MadeCorpus, tmp_path, name):
    place = shutil.copytree(made.uri, tmp_path / name / "corpus")
    assert corpus_status(str(place)).units == 3


def test_ten_thousand_receipts(tmp_path):
    rows = [PlanRow(f"u-{n:09d}", "p", "rows", n, n + 10, 10) for n in range(0, 110_000, 10)]
    corpus(str(tmp_path), rows, [])
    (tmp_path / "receipts").mkdir()
    for n in range(0, 100_000, 10):
        (tmp_path / "receipts" / f"u-{n:09d}.json").write_text(json.dumps(receipt(f"u-{n:09d}")))
    began = time.process_time()
    found = corpus_status(str(tmp_path))
    assert time.process_time() - began < 10
    assert (found.units, found.images, found.units_left, found.images_left) == (10_000, 100_000, 1_000, 10_000)
