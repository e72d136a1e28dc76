"""Atomic writes, and URIs without what must not be told."""

from __future__ import annotations

import os

import fsspec
import pytest

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.signatures import unsigned
from fastsam_batch.storage import (
    absolute,
    filesystem,
    join,
    list_files,
    open_result,
    redact,
    write_atomic,
    write_result,
)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("/a/b c#1?.jpg", "/a/b c#1?.jpg"),
        ("s3://bucket/key?x#y", "s3://bucket/key?x#y"),
        ("s3://key:secret@bucket/a@b", "s3://bucket/a@b"),
        ("https://u:p@host/a/b.jpg?token=1", "https://host/a/b.jpg"),
        ("HTTPS://u:p@host/a?token=1", "HTTPS://host/a"),
        ("https://host?sig=secret", "https://host"),
        ("https://host?sig=sec/ret", "https://host"),
        ("https://u:p?ss@host/a", "https://"),
        ("abfss://container@account.dfs.core.windows.net/a", "abfss://container@account.dfs.core.windows.net/a"),
        ("abfs://user:secret@account/a", "abfs://account/a"),
        ("memory:///x", "memory:///x"),
        ("s3://buck[et/x", "s3://buck[et/x"),
    ],
)
def test_redact(uri, told):
    assert redact(uri) == told


def test_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute("photos/") == absolute(f"{tmp_path}/photos") == f"{tmp_path}/photos"
    assert absolute("~/photos/*.tar") == "/home/me/photos/*.tar"
    for uri in ("s3://bucket/x/", "demo:", "file:/x", "memory://x"):
        assert absolute(uri) == uri


def test_join():
    assert join("s3://b/x/", "/masks/", "a.parquet") == "s3://b/x/masks/a.parquet"
    assert join("/", "x") == "/x"


@pytest.mark.parametrize("name", ["run::1", "run::s", "a#b?c*[d]%20"])
@pytest.mark.parametrize("place", ["", "{}/", "file://{}/", "memory://bucket/"])
def test_a_name_is_taken_as_it_is(tmp_path, monkeypatch, place, name):
    monkeypatch.chdir(tmp_path)
    folder = "/bucket" if place.startswith("memory") else str(tmp_path)
    fs, path = filesystem(place.format(tmp_path) + name)
    assert path == f"{folder}/{name}"
    write_atomic(fs, path, b"here")
    assert fs.cat_file(path) == b"here"
    fs.rm_file(path)


def test_a_chain_of_schemes_is_refused():
    with pytest.raises(InputError, match="it needs one scheme alone"):
        filesystem("simplecache::s3://bucket/a")


def test_a_home_folder_is_one_and_a_folder_may_end_in_a_slash(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert filesystem("~/out/")[1] == filesystem(f"{tmp_path}/out")[1] == f"{tmp_path}/out"


@pytest.mark.parametrize("place", ["{}/new/folder/a.bin", "memory://bucket/a.bin"])
def test_a_write_replaces_the_whole(tmp_path, place):
    fs, path = filesystem(place.format(tmp_path))
    for data in (b"first", b"2"):
        write_atomic(fs, path, data)
        assert fs.cat_file(path) == data
    assert len(fs.ls(fs._parent(path))) == 1


def test_a_failed_write_leaves_what_was_there(tmp_path):
    fs, path = filesystem(str(tmp_path / "a.bin"))
    write_atomic(fs, path, b"whole")
    with pytest.raises(TypeError):
        write_atomic(fs, path, "not bytes")
    assert fs.cat_file(path) == b"whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("place", ["{}/new/folder/a.bin", "memory://results/a.bin"])
def test_a_result_appears_when_it_is_whole(tmp_path, place):
    fs, path = filesystem(place.format(tmp_path))
    with open_result(place.format(tmp_path)) as file:
        file.write(b"first, ")
        assert not fs.exists(path)
        file.write(b"second")
    assert fs.cat_file(path) == b"first, second"
    with pytest.raises(TypeError), open_result(place.format(tmp_path)) as file:
        file.write("not bytes")
    assert fs.cat_file(path) == b"first, second"
    assert len(fs.ls(fs._parent(path))) == 1


def test_a_result_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(InputError, match="cannot write"), open_result(str(tmp_path / "file" / "a.bin")):
        pass


def test_an_unknown_scheme_is_a_sentence():
    with pytest.raises(InputError, match="cannot open nosuch://x"):
        filesystem("nosuch://x")
    assert "nosuch" not in fsspec.available_protocols()


@pytest.mark.parametrize(
    ("uri", "kind"), [("ftp://u:pw@127.0.0.1:1/x", OutageError), ("github://x", InputError), ("zip://x", InputError)]
)
def test_a_backend_that_cannot_begin_is_a_sentence(uri, kind):
    with pytest.raises(kind, match=f"^cannot open {uri.replace('u:pw@', '')}: ."):
        filesystem(uri)


@pytest.mark.parametrize(
    ("uri", "stored"),
    [
        ("https://u:pw@h/x.png?X-Amz-Signature=S&X-Amz-Date=1", "https://h/x.png"),
        ("https://h/get?id=1", "https://h/get?id=1"),
        ("https://h/get?id=1&access_token=abc&page=2", "https://h/get?id=1&page=2"),
        (
            "https://a.blob.core.windows.net/c/a.jpg?sv=1&se=2&sr=b&sp=r&sig=x",
            "https://a.blob.core.windows.net/c/a.jpg",
        ),
        ("https://h/a.jpg?sp=3", "https://h/a.jpg?sp=3"),  # no shared access signature
        ("https://h/a?Expires=1&Key-Pair-Id=2&Signature=3&w=100", "https://h/a?w=100"),
        (
            "https://h/a?AWSAccessKeyId=1&apikey=2&sessionid=3&pwd=4&user_key=5&auth=6&usersig=7&privatekey=8&w=100",
            "https://h/a?w=100",
        ),
        ("https://h/a?design=1&keyword=2&author=3&passenger=5&assignment=6&policyholder=7",) * 2,
        ("https://h?id=1", "https://h"),
        ("s3://b/a?id=1", "s3://b/a?id=1"),
        ("/x/a?sig=1", "/x/a?sig=1"),
    ],
)
def test_what_signs_an_address_is_not_stored_and_what_names_a_file_is(uri, stored):
    assert unsigned(uri) == stored == unsigned(stored)


def test_a_result_takes_the_place_of_files_only(tmp_path):
    """A link is followed; a device or pipe would be gone, and who reads it would wait for ever."""
    (tmp_path / "real.json").write_bytes(b"old")
    (tmp_path / "link.json").symlink_to("real.json")
    write_result(tmp_path / "link.json", b"new")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "real.json").read_bytes() == b"new"
    (tmp_path / "dangling.json").symlink_to("later.json")
    write_result(tmp_path / "dangling.json", b"there")
    assert (tmp_path / "later.json").read_bytes() == b"there"
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name in ("pipe.json", "folder.json"):
        before = os.stat(tmp_path / name)
        with pytest.raises(InputError, match=f"{name}: a device, pipe or folder is there"):
            write_result(tmp_path / name, b"new")
        assert os.stat(tmp_path / name).st_ino == before.st_ino


def test_a_result_whose_store_does_not_answer_is_an_outage(monkeypatch):
    monkeypatch.setattr("fastsam_batch.outage.PAUSE_S", 0.001)
    store = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in (store | {"AWS_MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(OutageError, match=r"s3://bucket/x\.json: Could not connect"):
        write_result("s3://bucket/x.json", b"{}")
    fsspec.filesystem("s3").clear_instance_cache()


def test_a_web_address_takes_no_result():
    with pytest.raises(InputError, match=r"cannot write https://h/a\.json: web addresses are read only"):
        write_result("https://u:pw@h/a.json", b"{}")


@pytest.mark.parametrize("place", ["{}/a.bin", "memory://results/outage.bin"])
def test_an_outage_while_a_result_is_made_is_none_of_its_file(tmp_path, place):
    fs, path = filesystem(place.format(tmp_path))
    with pytest.raises(OutageError, match="of the masks"), open_result(place.format(tmp_path)):
        raise OutageError("of the masks")
    assert not fs.exists(path)


def test_files_of_a_kind_are_listed(tmp_path):
    for name in ("b.json", "a.json", ".c.json", "d.parquet"):
        (tmp_path / name).touch()
    fs, path = filesystem(tmp_path)
    assert list_files(fs, path, ".json") == [f"{path}/a.json", f"{path}/b.json"]
    assert list_files(fs, f"{path}/none", ".json") == []
