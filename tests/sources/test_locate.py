"""Reading one image again by the URI that a corpus stores: what is refused, and how."""

from __future__ import annotations

import fsspec
import pytest
from sources.made_inputs import images, small_images, tar_bytes, write_parquet, write_tar

from fastsam_batch.sources import open_source, read_image_bytes
from fastsam_batch.sources.shards import ShardReader


@pytest.mark.parametrize(
    "uri",
    [
        "{folder}/none.png",
        "{folder}/none.tar#a.png",
        "{folder}/s.tar#none.png",
        "{folder}/s.tar#0000.png#2",
        "{folder}/p.parquet#5",
        "{folder}/p.parquet#-1",
        "{folder}/p.parquet#x",
        "{folder}/p.parquet#1",
        "demo:none.png",
        "memory://none/a.png",
    ],
)
def test_what_does_not_exist(tmp_path, uri):
    write_tar(tmp_path / "s.tar", small_images(2).items())
    write_parquet(tmp_path / "p.parquet", {"bytes": [b"1", None]})
    with pytest.raises(FileNotFoundError):
        read_image_bytes(uri.format(folder=tmp_path))


def test_what_is_broken_is_an_os_error(tmp_path):
    (tmp_path / "s.tar").write_bytes(tar_bytes(small_images(3).items())[: 1024 + 520])
    assert read_image_bytes(f"{tmp_path}/s.tar#0000.png") == small_images(3)["0000.png"]
    (tmp_path / "p.parquet").write_bytes(b"not parquet")
    write_parquet(tmp_path / "q.parquet", {"label": ["x"]})
    for uri in ("s.tar#0001.png", "p.parquet#0", "q.parquet#0"):
        with pytest.raises(OSError, match=uri.partition("#")[0]):
            read_image_bytes(f"{tmp_path}/{uri}")


def test_a_plain_object_whose_key_looks_like_a_member():
    fsspec.filesystem("memory").pipe_file("/far/s.tar#a.png", b"plain")
    assert read_image_bytes("memory://far/s.tar#a.png") == b"plain"


def test_what_lies_in_a_web_file_that_a_query_asks_for(web, tmp_path):
    (tmp_path / "s.tar").write_bytes(tar_bytes([("a.png", b"1"), ("b.png?#1.png", b"2")]))
    write_parquet(tmp_path / "p.parquet", {"bytes": [b"3"]})
    (tmp_path / "plain.png").write_bytes(b"4")
    stored = {
        image.uri: image.data
        for name in ("s.tar", "p.parquet")
        for image in images(open_source(f"{web}/{name}?download=1"))
    }
    assert stored == {
        f"{web}/s.tar?download=1#a.png": b"1",
        f"{web}/s.tar?download=1#b.png?#1.png": b"2",
        f"{web}/p.parquet?download=1#0": b"3",
    }
    reader = ShardReader()
    for uri, data in {**stored, f"{web}/plain.png?a=x.tar": b"4"}.items():
        assert read_image_bytes(uri) == reader.read(uri) == data
    reader.close()


def test_a_member_of_a_shard_whose_folder_looks_like_one(tmp_path):
    folder = tmp_path / "old.tar#kept"
    write_tar(folder / "s.tar.gz", [("x.tar#y.png", b"1")])
    assert read_image_bytes(f"{folder}/s.tar.gz#x.tar#y.png") == b"1"


def test_a_member_named_by_the_address_it_came_from(tmp_path):
    write_tar(tmp_path / "s.tar", [("https://x.org/a.png", b"1"), ("b.png", b"2")])
    stored = {image.uri: image.data for image in images(open_source(str(tmp_path)))}
    assert list(stored) == [f"{tmp_path}/s.tar#https://x.org/a.png", f"{tmp_path}/s.tar#b.png"]
    reader = ShardReader()
    assert [read_image_bytes(uri) for uri in stored] == [reader.read(uri) for uri in stored] == [b"1", b"2"]
    reader.close()
