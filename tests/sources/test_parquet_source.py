"""Parquet inputs: row ranges against row groups, columns of every sort, broken files."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources.made_inputs import images, plan, small_image, small_images, units, write_folder, write_parquet, write_tar

from fastsam_batch.errors import InputError
from fastsam_batch.sources import open_source, read_image_bytes

CONTENT = {"bytes": list(small_images(23).values()), "image_id": list(small_images(23)), "label": ["x"] * 23}
OTHERS = {**CONTENT, "image_id": [f"other/{name}" for name in small_images(23)]}


@pytest.mark.parametrize("row_group_size", [1, 3, 5, 23, 100])
@pytest.mark.parametrize("unit_size", [1, 4, 7, 23, 128])
def test_units_and_row_groups_need_not_align(tmp_path, row_group_size, unit_size):
    path = write_parquet(tmp_path / "p.parquet", CONTENT, row_group_size=row_group_size)
    source = open_source(str(path))
    rows = plan(source, unit_size=unit_size)
    assert [(row.start, row.stop) for row in rows] == [
        (start, min(start + unit_size, 23)) for start in range(0, 23, unit_size)
    ]
    found = units(source, rows)
    assert [unit.unit_id for unit in found] == [row.unit_id for row in rows]
    assert [(image.image_id, image.data) for unit in found for image in unit.images] == list(small_images(23).items())


def test_only_the_row_groups_asked_for_are_read(tmp_path):
    # The bytes of all other row groups are destroyed: a read that touched them would fail.
    noise = [bytes([number]) * 40_000 for number in range(8)]
    path = write_parquet(tmp_path / "p.parquet", {"bytes": noise}, row_group_size=2, compression="none")
    chunk = pq.ParquetFile(path).metadata.row_group(2).column(0)
    begin = chunk.dictionary_page_offset or chunk.data_page_offset
    data = bytearray(path.read_bytes())
    end = begin + chunk.total_compressed_size
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[4:begin] = b"\xff" * (begin - 4)
    data[end:footer] = b"\xff" * (footer - end)
    path.write_bytes(data)
    source = open_source(str(path))
    rows = plan(source, unit_size=2)
    assert [image.data for image in images(source, [rows[2]])] == noise[4:6]
    assert {image.error_kind for image in images(source, [rows[1]])} == {"unreadable"}


def test_without_an_id_column_the_row_is_the_id(tmp_path):
    write_parquet(tmp_path / "sub" / "p.parquet", {"bytes": CONTENT["bytes"]}, row_group_size=4)
    found = images(open_source(str(tmp_path)))
    assert [image.image_id for image in found] == [f"sub/p.parquet#{row}" for row in range(23)]
    assert [image.uri for image in found] == [f"{tmp_path}/sub/p.parquet#{row}" for row in range(23)]
    assert read_image_bytes(found[17].uri) == small_image(17)


def test_nulls(tmp_path):
    write_folder(tmp_path, {"c.png": small_image(3)})
    content = {
        "bytes": [small_image(1), None, None, None],
        "uri": [None, None, "c.png", "gone.png"],
        "image_id": [None, "b", "c", None],
    }
    found = images(open_source(str(write_parquet(tmp_path / "p.parquet", content))))
    assert [(image.image_id, image.error_kind) for image in found] == [
        ("p.parquet#0", None),
        ("b", "missing_bytes"),
        ("c", None),
        ("p.parquet#3", "missing"),
    ]
    assert found[2].data == small_image(3)
    assert found[2].uri == f"{tmp_path}/c.png"


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(len(small_image(1))), pa.binary_view()])
def test_types_that_hold_bytes(tmp_path, kind):
    table = pa.table({"bytes": pa.array([small_image(1)], kind)})
    try:
        pq.write_table(table, tmp_path / "p.parquet")
    except pa.ArrowNotImplementedError:
        pytest.skip("this pyarrow does not write the type")
    (found,) = images(open_source(str(tmp_path / "p.parquet")))
    assert found.data == small_image(1)


def test_integer_and_binary_ids_become_text(tmp_path):
    for number, ids in enumerate(([7, 8], [b"x", b"\xff"])):
        path = write_parquet(tmp_path / f"{number}.parquet", {"bytes": [b"1", b"2"], "image_id": ids})
        found = [image.image_id for image in images(open_source(str(path)))]
        assert found == (["7", "8"] if number == 0 else ["x", "\\xff"])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(len("0001.png"))])
def test_uris_may_be_binary(tmp_path, kind):
    write_folder(tmp_path, small_images(2))
    pq.write_table(pa.table({"uri": pa.array([b"0001.png", b"gone.png"], kind)}), tmp_path / "p.parquet")
    found = images(open_source(str(tmp_path / "p.parquet")))
    assert [(image.data, image.error_kind) for image in found] == [(small_image(1), None), (None, "missing")]


def test_hugging_face_image_columns(tmp_path):
    write_folder(tmp_path, {"b.png": small_image(2)})
    struct = [{"bytes": small_image(1), "path": "a.png"}, {"bytes": None, "path": "b.png"}]
    found = images(open_source(str(write_parquet(tmp_path / "p.parquet", {"image": struct, "label": [0, 1]}))))
    assert [image.data for image in found] == [small_image(1), small_image(2)]
    assert [image.image_id for image in found] == ["p.parquet#0", "p.parquet#1"]
    assert read_image_bytes(found[0].uri) == small_image(1)


def test_other_column_names(tmp_path):
    path = write_parquet(tmp_path / "p.parquet", {"jpg": [small_image(1)], "key": ["k"]})
    (found,) = images(open_source(str(path), bytes_column="jpg", id_column="key"))
    assert (found.image_id, found.data) == ("k", small_image(1))
    assert read_image_bytes(found.uri, bytes_column="jpg") == small_image(1)
    write_folder(tmp_path, {"a.png": small_image(4)})
    path = write_parquet(tmp_path / "q.parquet", {"link": ["a.png"]})
    (found,) = images(open_source(str(path), uri_column="link"))
    assert (found.image_id, found.data) == ("q.parquet#0", small_image(4))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ({"label": [1], "size": [2]}, {}, r"p\.parquet.*label, size.*--bytes-column"),
        ({"bytes": ["text"]}, {}, r"p\.parquet.*string.*--bytes-column"),
        ({"bytes": [b"1"]}, {"id_column": "key"}, r"p\.parquet has no column 'key'.*bytes"),
        ({"bytes": [b"1"], "uri": ["x"]}, {"bytes_column": "jpg"}, r"p\.parquet has no column 'jpg'"),
        ({"bytes": pa.array([], pa.binary())}, {}, r"p\.parquet holds no rows"),
    ],
)
def test_files_without_images_are_input_errors(tmp_path, content, options, message):
    path = write_parquet(tmp_path / "p.parquet", content)
    with pytest.raises(InputError, match=message):
        plan(open_source(str(path), **options))


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_broken_file_is_an_input_error_that_names_it(tmp_path, keep):
    path = write_parquet(tmp_path / "p.parquet", CONTENT)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(InputError, match=r"p\.parquet is not a readable Parquet file"):
        plan(open_source(str(path)))


def test_a_file_that_breaks_after_planning_fails_its_own_images(tmp_path):
    write_parquet(tmp_path / "a.parquet", CONTENT)
    write_parquet(tmp_path / "b.parquet", OTHERS)
    source = open_source(str(tmp_path))
    rows = plan(source, unit_size=23)
    (tmp_path / "a.parquet").unlink()
    first, second = units(source, rows)
    assert {image.error_kind for image in first.images} == {"missing"}
    assert [image.image_id for image in first.images] == [f"a.parquet#{row}" for row in range(23)]
    assert {image.error_kind for image in second.images} == {None}


def test_new_files_are_added_and_changed_ones_refused(tmp_path):
    write_parquet(tmp_path / "b.parquet", CONTENT)
    before = plan(open_source(str(tmp_path)))
    write_parquet(tmp_path / "a.parquet", OTHERS)
    after = plan(open_source(str(tmp_path)), before)
    assert {row.shard for row in after} == {"a.parquet"}
    assert len({row.unit_id for row in before + after}) == len(before + after) == 12
    write_parquet(tmp_path / "b.parquet", {**CONTENT, "more": ["column"] * 23})
    with pytest.raises(InputError, match=r"b\.parquet changed since it was planned"):
        plan(open_source(str(tmp_path)), before + after)


def test_what_a_writer_left_in_its_scratch_folder_is_no_input(tmp_path):
    write_parquet(tmp_path / "part-0.parquet", CONTENT)
    scratch = tmp_path / "_temporary" / "0" / "attempt_1"
    scratch.mkdir(parents=True)
    write_parquet(scratch / "part-0.parquet", CONTENT)
    (scratch / "part-1.parquet").write_bytes(b"half")
    assert {row.shard for row in plan(open_source(str(tmp_path)))} == {"part-0.parquet"}


def test_a_shard_whose_name_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "tars").mkdir()
    write_parquet(tmp_path / "a.parquet", CONTENT)
    (tmp_path / "a.parquet").rename(tmp_path / os.fsdecode(b"a\xff.parquet"))
    write_tar(tmp_path / "tars" / os.fsdecode(b"a\xff.tar"), small_images(3).items())
    for folder, suffix in ((tmp_path, "parquet"), (tmp_path / "tars", "tar")):
        with pytest.raises(InputError, match=rf"the shard a\\xff\.{suffix}: its name is not UTF-8; rename it"):
            plan(open_source(f"{folder}/*.{suffix}"))


def test_many_files_are_planned_in_order(tmp_path):
    for number in range(150):
        write_parquet(tmp_path / f"{number:04d}.parquet", {"bytes": [b"1", b"2"]})
    rows = plan(open_source(str(tmp_path)))
    assert [row.shard for row in rows] == [f"{number:04d}.parquet" for number in range(150)]
    assert [row.shard for row in plan(open_source(str(tmp_path)), limit=3)] == [
        "0000.parquet",
        "0001.parquet",
    ]


def test_an_id_given_twice_is_refused_with_both_files(tmp_path):
    write_parquet(tmp_path / "a.parquet", CONTENT)
    write_parquet(tmp_path / "b.parquet", {"bytes": [b"1", b"2"], "image_id": [b"0007.png", None]})
    with pytest.raises(
        InputError, match=r"b\.parquet names the image '0007\.png' a second time \(first in .*a\.parquet"
    ):
        plan(open_source(str(tmp_path)))


def test_an_id_given_twice_is_found_among_files_planned_before(tmp_path):
    write_parquet(tmp_path / "a.parquet", CONTENT)
    before = plan(open_source(str(tmp_path)))
    assert plan(open_source(str(tmp_path)), before) == []
    write_parquet(tmp_path / "b.parquet", {"bytes": [b"1"], "image_id": ["0007.png"]})
    with pytest.raises(InputError, match=r"'0007\.png' a second time"):
        plan(open_source(str(tmp_path)), before)


def test_ids_are_compared_in_little_memory(tmp_path):
    import tracemalloc

    rows = 200_000
    ids = [f"{number:08d}.png" for number in range(rows)]
    write_parquet(tmp_path / "a.parquet", {"uri": ["x"] * rows, "image_id": ids})
    del ids
    source = open_source(str(tmp_path))
    tracemalloc.start()
    assert len(plan(source, unit_size=rows)) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * rows  # a text alone takes 61


@pytest.mark.parametrize("column", ["bytes", "image"])
def test_large_images_make_small_units(tmp_path, monkeypatch, column):
    monkeypatch.setattr("fastsam_batch.sources.parquet.UNIT_BYTES", 100_000)
    held = [b"%d" % number + bytes(30_000) for number in range(10)]
    content = held if column == "bytes" else [{"bytes": data, "path": "x"} for data in held]
    path = write_parquet(tmp_path / "p.parquet", {column: content}, row_group_size=4, use_dictionary=False)
    source = open_source(str(path))
    rows = plan(source, unit_size=128)
    assert [(row.start, row.stop) for row in rows] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert [image.data for image in images(source, rows)] == held


@pytest.mark.parametrize("name", ["bytes", "image_id"])
def test_two_columns_of_one_name_are_refused(tmp_path, name):
    columns = {"bytes": pa.array([small_image(1)]), "image_id": pa.array(["a"])}
    table = pa.table([*columns.values(), columns[name]], names=[*columns, name])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=rf"a\.parquet has 2 columns '{name}': leave one of them"):
        plan(open_source(str(tmp_path / "a.parquet")))


def test_a_column_of_nulls_is_no_column_and_a_dictionary_of_bytes_is_one(tmp_path):
    """As pandas writes a column in which nothing is, and a categorical one."""
    (tmp_path / "x.png").write_bytes(small_image(1))
    located = pa.table({"bytes": pa.nulls(1), "uri": [str(tmp_path / "x.png")]})
    pq.write_table(located, tmp_path / "located.parquet")
    (image,) = images(open_source(str(tmp_path / "located.parquet")))
    assert image.data == small_image(1)
    held = pa.table({"bytes": pa.array([small_image(1), small_image(2), small_image(1)]).dictionary_encode()})
    pq.write_table(held, tmp_path / "held.parquet")
    found = images(open_source(str(tmp_path / "held.parquet")))
    assert [image.data for image in found] == [small_image(1), small_image(2), small_image(1)]
