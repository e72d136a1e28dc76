"""Tar shards: units cut from a stream, odd members, broken archives, limits, reruns."""

from __future__ import annotations

import gzip
import io
import re
import tarfile

import fsspec
import pytest
from sources.flaky import FlakyFileSystem
from sources.made_inputs import (
    images,
    plan,
    small_images,
    tar_bytes,
    units,
    write_folder,
    write_tar,
)

from fastsam_batch.config import segment_options
from fastsam_batch.corpus.plan import pending, planned, read_plans, write_plan
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import ATTEMPTS
from fastsam_batch.sources import open_source, read_image_bytes
from fastsam_batch.sources import tar as tar_module
from fastsam_batch.sources.base import Planned
from fastsam_batch.sources.names import unit_name, unit_prefix


def shard(tmp_path, data: bytes, name: str = "s.tar") -> str:
    (tmp_path / name).write_bytes(data)
    return str(tmp_path / name)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz"])
def test_a_shard_is_cut_into_units_and_the_last_is_marked(tmp_path, count, name):
    write_tar(tmp_path / name, small_images(count).items())
    source = open_source(str(tmp_path / name))
    (row,) = plan(source)
    assert (row.kind, row.shard, row.start, row.stop) == ("stream", name, 0, None)
    assert row.shard_size == (tmp_path / name).stat().st_size
    found = units(source, [row])
    starts = list(range(0, count, 4)) or [0]
    assert [unit.unit_id for unit in found] == [f"{row.unit_id}-{start:09d}" for start in starts]
    assert [unit.last for unit in found] == [False] * (len(starts) - 1) + [True]
    assert {unit.shard for unit in found} == {name}
    read = [image for unit in found for image in unit.images]
    assert [(image.image_id, image.data) for image in read] == [
        (f"{name}/{member}", data) for member, data in small_images(count).items()
    ]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_keys_are_relative_to_the_input(tmp_path, mode):
    write_folder(tmp_path, {f"set {part}/x.tar": tar_bytes(small_images(1).items(), mode) for part in "ab"})
    found = images(open_source(str(tmp_path)))
    assert [image.image_id for image in found] == ["set a/x.tar/0000.png", "set b/x.tar/0000.png"]
    assert [image.uri for image in found] == [f"{tmp_path}/set {part}/x.tar#0000.png" for part in "ab"]


def test_unit_ids_are_safe_names_that_tell_shards_apart():
    prefixes = [unit_prefix(key) for key in ("a/b.tar", "a b.tar", "a-b.tar", "../" * 90 + "x", "ü.tar", ".tar")]
    assert len(set(prefixes)) == len(prefixes)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,90}", prefix) for prefix in prefixes)
    assert unit_prefix("a/b.tar") == "a-b.tar-" + unit_prefix("a/b.tar")[-8:]


def odd_members() -> bytes:
    """Every sort of member that a tar can hold beside plain images."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name, data=b"", kind=tarfile.REGTYPE, target=""):
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, target
            archive.addfile(info, io.BytesIO(data))

        add("folder.png", kind=tarfile.DIRTYPE)
        add("./dot.png", b"1")
        add("/etc/absolute.png", b"2")
        add("../../parent.png", b"3")
        add("again.png", b"4")
        add("again.png", b"5")
        add("./again.png", b"6")
        add("label.json", b"{}")
        add("link.png", kind=tarfile.SYMTYPE, target="/etc/passwd")
        add("hard.png", kind=tarfile.LNKTYPE, target="again.png")
        add("pipe.png", kind=tarfile.FIFOTYPE)
        add("._mac.png", b"resource fork")
        add("long/" + "x" * 200 + ".png", b"7")
        add("empty.png", b"")
        add("SHOUT.JPG", b"8")
        add("unicode/ß.png", b"9")
    return buffer.getvalue()


def test_odd_members(tmp_path):
    source = open_source(shard(tmp_path, odd_members()))
    found = images(source)
    assert {image.image_id.removeprefix("s.tar/"): image.data for image in found} == {
        "dot.png": b"1",
        "etc/absolute.png": b"2",
        "../../parent.png": b"3",
        "again.png": b"4",
        "again.png#2": b"5",
        "again.png#3": b"6",
        "long/" + "x" * 200 + ".png": b"7",
        "empty.png": b"",
        "SHOUT.JPG": b"8",
        "unicode/ß.png": b"9",
        "link.png": None,
        "hard.png": None,
    }
    assert len({image.uri for image in found}) == len(found)
    for image in found:
        if image.data is not None:
            assert read_image_bytes(image.uri) == image.data
            continue
        assert image.error_kind == "unsupported" and "is a link to" in image.error_message
        with pytest.raises(OSError, match="is a link to"):
            read_image_bytes(image.uri)


def test_a_member_name_that_is_no_utf8_can_be_stored(tmp_path):
    data = tar_bytes([("caf\udce9.png", b"1")])
    (image,) = images(open_source(shard(tmp_path, data)))
    assert image.image_id == "s.tar/caf\\xe9.png"
    assert read_image_bytes(image.uri) == b"1"


def test_an_oversized_member_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_module, "MAX_IMAGE_BYTES", 50)
    path = shard(tmp_path, tar_bytes([("a.png", b"1"), ("b.png", b"x" * 51), ("c.png", b"3")]))
    found = images(open_source(path))
    assert [(image.data, image.error_kind) for image in found] == [
        (b"1", None),
        (None, "too_large"),
        (b"3", None),
    ]


def broken(found) -> None:
    """The last image tells that the shard is broken, and no other does."""
    *rest, last = found
    assert last.image_id.endswith("/#broken")
    assert (last.data, last.error_kind) == (None, "broken_shard")
    assert "s.tar" in last.error_message
    assert all(image.error_kind is None for image in rest)


WHOLE = tar_bytes(small_images(9).items())
BLOCK = 1024  # a header and one block of data: what each small image takes


@pytest.mark.parametrize(
    ("data", "readable"),
    [
        pytest.param(b"", 0, id="no bytes"),
        pytest.param(b"this is no tar archive\n" * 100, 0, id="text"),
        pytest.param(b"\x1f\x8b\x08\0 not gzip either", 0, id="gzip header only"),
        pytest.param(WHOLE[: 6 * BLOCK + 512 + 20], 6, id="cut in data"),
        pytest.param(WHOLE[: 6 * BLOCK + 512], 6, id="cut after a header"),
        pytest.param(WHOLE[: 6 * BLOCK + 100], 6, id="cut in a header"),
        pytest.param(WHOLE[: 6 * BLOCK], 6, id="cut between members"),
        pytest.param(WHOLE[: 4 * BLOCK], 4, id="cut at the end of a unit"),
        pytest.param(WHOLE[: 3 * BLOCK] + b"\x99" * 512 + WHOLE[3 * BLOCK + 512 :], 3, id="damaged header"),
        pytest.param(gzip.compress(WHOLE, mtime=0)[:-200], None, id="cut gzip"),
    ],
)
def test_a_broken_shard_keeps_what_can_be_read(tmp_path, data, readable):
    source = open_source(shard(tmp_path, data))
    rows = plan(source)
    found = units(source, rows)
    assert [unit.last for unit in found] == [False] * (len(found) - 1) + [True]
    read = [image for unit in found for image in unit.images]
    broken(read)
    expected = [(f"s.tar/{name}", data) for name, data in small_images(9).items()]
    assert [(image.image_id, image.data) for image in read[:-1]] == expected[: len(read) - 1]
    if readable is not None:
        assert len(read) - 1 == readable
    for unit in found[1:]:
        assert units(source, rows, {unit.unit_id}) == [other for other in found if other != unit]
    if len(found) > 1:
        assert units(source, rows, {found[0].unit_id}) == found[1:]


def test_other_shards_of_a_set_are_not_harmed(tmp_path):
    write_tar(tmp_path / "0.tar", small_images(3).items())
    shard(tmp_path, b"nonsense", "1.tar")
    write_tar(tmp_path / "2.tar", small_images(3).items())
    kinds = [image.error_kind for image in images(open_source(str(tmp_path)))]
    assert kinds == [None] * 3 + ["broken_shard"] + [None] * 3


def test_a_shard_that_vanished_is_told(tmp_path):
    source = open_source(shard(tmp_path, WHOLE))
    rows = plan(source)
    (tmp_path / "s.tar").unlink()
    (unit,) = units(source, rows)
    broken(unit.images)
    assert unit.last
    (rest,) = units(source, rows, {unit.unit_id})  # half done, then lost: what is left must say so
    broken(rest.images)
    assert rest.unit_id == unit.unit_id.replace("-000000000", "-000000004")
    assert rest.last


@pytest.mark.parametrize("after", [0, 512, 5 * BLOCK + 700])
def test_a_store_that_fails_for_a_moment_loses_and_repeats_nothing(after):
    fsspec.filesystem("memory").pipe_file("/store/s.tar", WHOLE)
    source = open_source("flaky://store/s.tar")
    rows = plan(source)
    undisturbed = units(source, rows)
    FlakyFileSystem.failures["/store/s.tar"] = [(OSError("connection reset"), after)] * (ATTEMPTS - 1)
    assert units(source, rows) == undisturbed
    assert FlakyFileSystem.failures["/store/s.tar"] == []


def test_a_store_that_keeps_failing_is_an_outage_and_no_broken_shard():
    fsspec.filesystem("memory").pipe_file("/store/s.tar", WHOLE)
    source = open_source("flaky://store/s.tar")
    rows = plan(source)
    undisturbed = units(source, rows)
    FlakyFileSystem.failures["/store/s.tar"] = [(OSError("connection reset"), 6 * BLOCK)] * 50
    read = []
    with pytest.raises(OutageError, match=r"store/s\.tar: connection reset"):
        read.extend(source.read(rows[0], ()))
    FlakyFileSystem.failures.clear()
    assert units(source, rows) == undisturbed


@pytest.mark.parametrize("after", [0, 512, 3 * BLOCK, 6 * BLOCK + 100, len(WHOLE) - 10])
def test_a_cut_body_is_not_a_cut_file(after):
    """The store sends less than the object holds, without an error: that is no broken shard."""
    fsspec.filesystem("memory").pipe_file("/store/s.tar", WHOLE)
    source = open_source("flaky://store/s.tar")
    rows = plan(source)
    undisturbed = units(source, rows)
    FlakyFileSystem.failures["/store/s.tar"] = [(None, after)] * 50
    with pytest.raises(OutageError, match=rf"sent {after} of {len(WHOLE)} bytes"):
        units(source, rows)
    FlakyFileSystem.failures["/store/s.tar"] = [(None, after)] * (ATTEMPTS - 1)
    assert units(source, rows) == undisturbed


def test_a_limit_within_a_broken_shard_counts_its_broken_end(tmp_path):
    source = open_source(shard(tmp_path, WHOLE[: 6 * BLOCK + 520]))
    everything = images(source)
    assert len(everything) == 7
    for limit in range(1, 9):
        rows = plan(source, limit=limit)
        assert images(source, rows) == everything[:limit]
        rest = plan(source, rows)
        assert images(source, rows + rest) == everything


def test_a_limit_is_raised_over_shards_that_were_planned_whole(tmp_path):
    from fastsam_batch.run import _new_rows

    for name in "abc":
        write_tar(tmp_path / "in" / f"{name}.tar", small_images(5).items())
    source, rows, held = open_source(str(tmp_path / "in")), [], []
    for limit in (7, 12, 1000, 1000):
        values = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "unit_size": 4, "limit": limit}
        rows += _new_rows(segment_options(values), source, rows, set())
        held.append(len(images(source, rows)))
    assert held == [7, 12, 15, 15]


def test_a_limit_and_the_rest_share_a_prefix_but_no_unit(tmp_path):
    source = open_source(shard(tmp_path, WHOLE))
    first = plan(source, limit=6)
    second = plan(source, first)
    assert [(row.start, row.stop) for row in first + second] == [(0, 6), (6, None)]
    assert first[0].unit_id == second[0].unit_id
    found = units(source, first + second)
    assert [unit.unit_id[-9:] for unit in found] == ["000000000", "000000004", "000000006"]
    assert [unit.last for unit in found] == [False, True, True]


def test_new_shards_are_added_and_changed_ones_refused(tmp_path):
    write_tar(tmp_path / "b.tar", small_images(3).items())
    before = plan(open_source(str(tmp_path)))
    write_tar(tmp_path / "a.tar", small_images(2).items())
    after = plan(open_source(str(tmp_path)), before)
    assert [row.shard for row in after] == ["a.tar"]
    assert planned(before + after).stops == {"a.tar": None, "b.tar": None}
    write_tar(tmp_path / "b.tar", small_images(30).items())
    with pytest.raises(InputError, match=r"b\.tar changed since it was planned"):
        plan(open_source(str(tmp_path)), before + after)


def test_a_mended_shard_is_planned_anew_where_nothing_of_it_is_committed(tmp_path):
    whole = tar_bytes(small_images(7).items())
    write_tar(tmp_path / "b.tar", small_images(3).items())
    (tmp_path / "a.tar").write_bytes(whole[:2000])
    corpus = str(tmp_path / "corpus")
    source = open_source(f"{tmp_path}/*.tar")
    write_plan(corpus, 1, list(source.plan(Planned(), 4, None)))
    (tmp_path / "a.tar").write_bytes(whole)
    source = open_source(f"{tmp_path}/*.tar")
    rows, _ = read_plans(corpus)
    with pytest.raises(InputError, match=r"a\.tar changed since it was planned"):
        list(source.plan(planned(rows, [unit_name(rows[0].unit_id, 0)]), 4, None))
    (row,) = source.plan(planned(rows, []), 4, None)
    assert (row.unit_id, row.shard_size) == (rows[0].unit_id, len(whole))
    left, _ = pending(corpus, rows, [row])
    assert [each.row for each in left] == [row, rows[1]]
    write_plan(corpus, 2, [row])
    assert read_plans(corpus)[0] == [row, rows[1]]
    assert list(source.plan(planned([row, rows[1]], []), 4, None)) == []
    assert [image.image_id for unit in source.read(row, ()) for image in unit.images] == [
        f"a.tar/{name}" for name in small_images(7)
    ]


def test_reading_holds_one_unit_not_the_shard(tmp_path):
    import tracemalloc

    megabyte = b"x" * 2**20
    path = tmp_path / "s.tar"
    write_tar(path, ((f"{number:03d}.png", megabyte) for number in range(64)))
    source = open_source(str(path))
    (row,) = plan(source, unit_size=4)
    tracemalloc.start()
    for unit in source.read(row, ()):
        assert len(unit.images) == 4
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 14 * 2**20
