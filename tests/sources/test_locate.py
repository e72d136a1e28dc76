"""Reading one image again by the URI that a corpus stores: what is refused, and how."""

from __future__ import annotations

import fsspec
import pytest
from sources.made_inputs import small_images, tar_bytes, write_parquet, write_tar

from fastsam_batch.sources import read_image_bytes


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


def test_a_member_of_a_shard_whose_folder_looks_like_one(tmp_path):
    folder = tmp_path / "old.tar#kept"
    write_tar(folder / "s.tar.gz", [("x.tar#y.png", b"1")])
    assert read_image_bytes(f"{folder}/s.tar.gz#x.tar#y.png") == b"1"
