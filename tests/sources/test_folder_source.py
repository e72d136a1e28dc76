"""Loose files: names of every sort, reruns, unreadable files."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from dataclasses import replace

import fsspec
import pytest
from sources.flaky import FlakyFileSystem
from sources.made_inputs import images, plan, small_image, small_images, units, write_folder, write_tar

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import ATTEMPTS, explain
from fastsam_batch.sources import open_source, read_image_bytes
from fastsam_batch.sources.base import ImageRef
from fastsam_batch.sources.fetch import fetch_image, fetch_images, stored_uri
from fastsam_batch.sources.listing import Listing

ODD_NAMES = [
    "with space.png",
    "täglich/Größe.png",
    "日本/写真.png",
    "100%.png",
    "%41.png",
    "hash#tag.png",
    "shard.tar#not a member.png",
    "what?.png",
    "star*.png",
    "[1].png",
    "a[0-9]/b{c}.png",
    "semi;colon&and.png",
    "double::colon.png",
    "quote'\".png",
    "back\\slash.png",
    "~tilde.png",
    "UPPER.PNG",
    "two.dots.jpeg",
    "plus+equals=.png",
]


@pytest.mark.parametrize("where", ["local", "file://", "memory"])
def test_odd_names_are_ids_and_can_be_read_again(tmp_path, where):
    named = {name: small_image(number) for number, name in enumerate(ODD_NAMES)}
    if where == "memory":
        store = fsspec.filesystem("memory")
        for name, data in named.items():
            store.pipe_file(f"/odd/{name}", data)
        source = open_source("memory://odd")
    else:
        write_folder(tmp_path, named)
        source = open_source(f"file://{tmp_path}" if where == "file://" else str(tmp_path))
    found = images(source)
    assert {image.image_id: image.data for image in found} == named
    assert [image.image_id for image in found] == sorted(named)
    for image in found:
        assert read_image_bytes(image.uri) == image.data


@pytest.mark.parametrize("folder", ["dir with space", "dir#1", "dir%20", "dir[1]", "dir::x", "dir?"])
def test_odd_folders(tmp_path, folder):
    write_folder(tmp_path / folder, small_images(2))
    found = images(open_source(str(tmp_path / folder)))
    assert [image.image_id for image in found] == ["0000.png", "0001.png"]
    assert [read_image_bytes(image.uri) for image in found] == [image.data for image in found]


def test_a_name_that_is_no_utf8_becomes_a_failed_image_not_a_crash(tmp_path):
    (tmp_path / "good.png").write_bytes(small_image(1))
    try:
        with open(bytes(tmp_path) + b"/caf\xe9.png", "wb") as file:
            file.write(small_image(2))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = {image.image_id: image.error_kind for image in images(open_source(str(tmp_path)))}
    assert found == {"good.png": None, "caf\\xe9.png": "missing"}


def test_a_name_that_is_not_utf8_is_not_taken_for_another(tmp_path):
    for name in (b"\xe4.png", b"\\xe4.png", b"\xe5.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(small_image(1))
    with pytest.raises(InputError, match=r"holds \\xe4\.png twice: one has a name that is not UTF-8; rename it"):
        plan(open_source(str(tmp_path)))
    (tmp_path / "\\xe4.png").unlink()
    assert [image.error_kind for image in images(open_source(str(tmp_path)))] == ["missing", "missing"]


def test_hidden_files_other_files_and_links(tmp_path):
    write_folder(tmp_path, {"a.png": small_image(1), ".hidden.png": b"", ".cache/b.png": b"", "notes.txt": b""})
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    found = {image.image_id: image.error_kind for image in images(open_source(str(tmp_path)))}
    assert found == {"a.png": None, "link.png": None, "dangling.png": "missing"}


def test_the_input_itself_may_be_a_link(tmp_path):
    write_folder(tmp_path / "real", small_images(2))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert [image.image_id for image in images(open_source(str(tmp_path / "link")))] == [
        "0000.png",
        "0001.png",
    ]


def test_one_image_alone(tmp_path):
    write_folder(tmp_path, small_images(2))
    (found,) = images(open_source(str(tmp_path / "0001.png")))
    assert found.image_id == "0001.png"
    assert found.data == small_image(1)


def test_glob_keys_are_relative_to_the_folder_before_the_wildcard(tmp_path):
    write_folder(tmp_path, {"cam1/day/a.png": small_image(1), "cam2/day/a.png": small_image(2), "c.png": b""})
    found = [image.image_id for image in images(open_source(f"{tmp_path}/cam*/day/*.png"))]
    assert found == ["cam1/day/a.png", "cam2/day/a.png"]
    assert [image.image_id for image in images(open_source(f"{tmp_path}/cam*"))] == found


def test_new_files_become_further_units_and_old_units_keep_their_members(tmp_path):
    write_folder(tmp_path, small_images(6))
    before = plan(open_source(str(tmp_path)))
    assert [row.unit_id for row in before] == ["files-000000000", "files-000000004"]
    assert [(row.start, row.stop) for row in before] == [(0, 4), (4, 6)]
    write_folder(tmp_path, {"0000-early.png": b"x", "zzz.png": b"y"})
    after = plan(open_source(str(tmp_path)), before)
    assert [row.unit_id for row in after] == ["files-000000006"]
    assert [member.image_id for member in after[0].members] == ["0000-early.png", "zzz.png"]
    assert all(row.kind == "members" and row.shard == "" for row in before + after)


def test_files_that_vanish_or_may_not_be_read_fail_alone(tmp_path):
    write_folder(tmp_path, small_images(3))
    source = open_source(str(tmp_path))
    rows = plan(source)
    (tmp_path / "0001.png").unlink()
    (tmp_path / "0002.png").unlink()
    (tmp_path / "0002.png").mkdir()
    (unit,) = units(source, rows)
    assert [image.error_kind for image in unit.images] == [None, "missing", "unreadable"]
    assert unit.images[1].data is None
    assert "0001.png does not exist" in unit.images[1].error_message


@pytest.mark.parametrize(
    ("error", "failures", "kind"),
    [
        (OSError("connection reset"), ATTEMPTS - 1, None),
        (TimeoutError(), ATTEMPTS - 1, None),
        (None, ATTEMPTS - 1, None),
        (FileNotFoundError("gone"), 1, "missing"),
        (PermissionError(errno.EACCES, "no", "/store/a.png"), 1, "unreadable"),
        (OSError(errno.ENAMETOOLONG, "long"), 1, "unreadable"),
        (ValueError("no such address"), 1, "unreadable"),
    ],
)
def test_what_may_pass_is_tried_again_and_answers_are_kept(error, failures, kind):
    fsspec.filesystem("memory").pipe_file("/store/a.png", small_image(1))
    FlakyFileSystem.failures["/store/a.png"] = [(error, 0)] * failures
    image = fetch_image(ImageRef("a.png", "flaky://store/a.png"))
    assert image.error_kind == kind
    assert (image.data == small_image(1)) == (kind is None)
    assert FlakyFileSystem.failures["/store/a.png"] == []


@pytest.mark.parametrize(
    "error",
    [
        OSError("connection reset"),
        OSError(errno.EBUSY, "SlowDown"),
        TimeoutError(),
        PermissionError("the token has expired"),
        OSError(errno.ENOSPC, "full", "/store/a.png"),
        None,
    ],
)
def test_an_outage_is_no_result_unless_asked_for(error):
    fsspec.filesystem("memory").pipe_file("/store/a.png", small_image(1))
    fsspec.filesystem("memory").pipe_file("/store/b.png", small_image(2))
    refs = [ImageRef(name, f"flaky://store/{name}") for name in ("a.png", "b.png")]
    FlakyFileSystem.failures["/store/a.png"] = [(error, 5)] * ATTEMPTS
    with pytest.raises(OutageError, match=r"flaky://store/a\.png"):
        fetch_images(refs)
    FlakyFileSystem.failures["/store/a.png"] = [(error, 5)] * ATTEMPTS
    first, second = fetch_images(refs, record_unreachable=True)
    assert (first.error_kind, second.data) == ("unreachable", small_image(2))


def test_an_object_that_a_store_never_gives_can_be_recorded():
    for number in range(3):
        fsspec.filesystem("memory").pipe_file(f"/store/{number}.png", small_image(number))
    FlakyFileSystem.failures["/store/1.png"] = [(OSError(errno.EIO, "InvalidObjectState"), 0)] * ATTEMPTS
    found = images(open_source("flaky://store", record_unreachable=True))
    assert [image.error_kind for image in found] == [None, "unreachable", None]
    assert "flaky://store/1.png" in found[1].error_message


def test_a_bug_of_a_store_s_client_is_no_result():
    fsspec.filesystem("memory").pipe_file("/store/a.png", small_image(1))
    FlakyFileSystem.failures["/store/a.png"] = [(RuntimeError("a bug"), 0)]
    with pytest.raises(RuntimeError, match="a bug"):
        fetch_image(ImageRef("a.png", "flaky://store/a.png"))


def test_images_over_http_and_no_signature_is_stored(tmp_path, web):
    write_folder(tmp_path, small_images(1))
    found = fetch_image(ImageRef("a", f"{web}/0000.png?X-Signature=secret"))
    assert found.data == small_image(0)
    assert found.uri == f"{web}/0000.png"
    missing = fetch_image(ImageRef("b", f"{web}/none.png?X-Signature=secret"))
    assert missing.error_kind == "missing"
    assert "secret" not in missing.error_message
    nobody = fetch_image(ImageRef("c", "http://user:secret@127.0.0.1:9/x.png?token=secret"), record_unreachable=True)
    assert nobody.error_kind == "unreachable"
    assert "secret" not in nobody.error_message + nobody.uri
    (alone,) = images(open_source(f"{web}/0000.png"))
    assert (alone.image_id, alone.data) == ("0000.png", small_image(0))


def test_a_signed_input_is_read_after_a_stored_plan(tmp_path, web):
    write_folder(tmp_path, small_images(2))
    for uri in (f"{web}/0000.png?X-Signature=secret", f"{web}/".replace("//", "//user:secret@")):
        source = open_source(uri)
        rows = plan(source)
        stored = [
            replace(row, members=tuple(ImageRef(ref.image_id, stored_uri(ref.uri)) for ref in row.members))
            for row in rows
        ]
        assert stored != rows
        assert open_source(uri).renewed(stored) == source.renewed(rows) == rows


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("/a/b#c?d%20.png", "/a/b#c?d%20.png"),
        ("memory:///a/b.png", "memory:///a/b.png"),
        ("s3://bucket/a#b?c.png", "s3://bucket/a#b?c.png"),
        ("s3://key:secret@bucket/a.png", "s3://bucket/a.png"),
        ("https://host/a.png?sig=secret", "https://host/a.png"),
    ],
)
def test_what_is_stored_of_a_uri(uri, kept):
    assert stored_uri(uri) == kept
    assert stored_uri(uri, "#what?.png") == f"{kept}#what?.png"


def test_a_member_with_a_question_mark_keeps_its_name_behind_a_signed_address(tmp_path, web):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("what?.png")
        info.size = len(small_image(0))
        archive.addfile(info, io.BytesIO(small_image(0)))
    (alone,) = images(open_source(f"{web}/a.tar?sig=secret"))
    assert (alone.uri, alone.data) == (f"{web}/a.tar#what?.png", small_image(0))
    assert read_image_bytes(alone.uri) == small_image(0)


def test_a_pipe_is_no_image_and_is_not_waited_for(tmp_path):
    write_folder(tmp_path, small_images(1))
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.csv")
    plain, pipe = images(open_source(str(tmp_path)))
    assert plain.data == small_image(0)
    assert (pipe.image_id, pipe.error_kind) == ("pipe.png", "unreadable")
    assert pipe.error_message.endswith("pipe.png is no regular file")
    with pytest.raises(InputError, match="is no regular file"):
        plan(open_source(str(tmp_path / "*.csv")))


def test_a_web_server_cannot_send_without_end(tmp_path, web, monkeypatch):
    write_folder(tmp_path, small_images(1))
    size = len(small_image(0))
    monkeypatch.setattr("fastsam_batch.sources.fetch.MAX_IMAGE_BYTES", size)
    assert fetch_image(ImageRef("a", f"{web}/0000.png")).data == small_image(0)
    monkeypatch.setattr("fastsam_batch.sources.fetch.MAX_IMAGE_BYTES", size - 1)
    assert fetch_image(ImageRef("a", f"{web}/0000.png")).error_kind == "too_large"


def test_errors_are_told_without_credentials():
    text = explain(OSError("403 for ftp://me:secret@host/x and 'https://host/y?sig=secret'\nmore"))
    assert text == "403 for ftp://host/x and 'https://host/y'"


def test_an_unreachable_store_is_an_outage():
    with pytest.raises(OutageError, match=r"cannot list http://127\.0\.0\.1"):
        open_source("http://127.0.0.1:9/photos/")


def test_large_images_make_small_units(tmp_path, monkeypatch):
    monkeypatch.setattr("fastsam_batch.sources.members.UNIT_BYTES", 100)
    sizes = {"a.png": 60, "b.png": 40, "c.png": 1, "d.png": 150, "e.png": 99, "f.png": 1, "g.png": 0}
    write_folder(tmp_path, {name: b"x" * size for name, size in sizes.items()})
    rows = plan(open_source(str(tmp_path)), unit_size=3)
    assert [[ref.image_id[0] for ref in row.members] for row in rows] == [["a", "b"], ["c"], ["d"], ["e", "f", "g"]]
    assert [row.unit_id for row in rows] == [f"files-{start:09d}" for start in (0, 2, 3, 4)]
    assert len(images(open_source(str(tmp_path)), rows)) == len(sizes)


def test_a_file_that_goes_while_the_folder_is_listed(tmp_path, monkeypatch):
    """As a download's temporary file does: what stays is still there."""
    write_folder(tmp_path, {"a.png": small_image(1), "b.png": small_image(2)})
    stat = os.stat

    def gone(path, *arguments, **options):
        if str(path).endswith("b.png"):
            raise FileNotFoundError(path)
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", gone)
    entries = Listing(str(tmp_path)).entries()
    assert [(entry.key, entry.size is None) for entry in entries] == [("a.png", False), ("b.png", True)]


def test_photographs_of_a_kind_that_is_not_read_are_told(tmp_path):
    heic = b"\x00\x00\x00\x18ftypheic" + bytes(16)
    write_folder(tmp_path, {"a.png": small_image(1), "phone.HEIC": heic, "notes.txt": b""})
    first, second = images(open_source(str(tmp_path)))
    assert (first.image_id, second.image_id, second.data) == ("a.png", "phone.HEIC", heic)
    shard = write_tar(tmp_path / "s.tar", [("a.png", small_image(1)), ("notes.txt", b""), ("phone.HEIC", heic)])
    assert [image.image_id for image in images(open_source(str(shard)))] == ["s.tar/a.png", "s.tar/phone.HEIC"]


@pytest.mark.parametrize("inside", ["", "corpus/"])
def test_the_files_of_a_corpus_are_no_input(tmp_path, inside):
    """Of one that lies in the input, or is where the input is."""
    corpus = {f"{inside}{name}": b"{}" for name in ("corpus.json", "plan/0001.parquet", "masks/unit.parquet")}
    write_folder(tmp_path, {"a.png": small_image(1), **corpus})
    keys = [entry.key for entry in Listing(str(tmp_path)).entries()]
    assert keys == ["a.png"]
