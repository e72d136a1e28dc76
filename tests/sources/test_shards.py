"""Many images of one tar: it is read on and not anew, in bounded memory."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources.counted import CountedFile
from sources.made_inputs import small_images, tar_bytes

from fastsam_batch.sources import shards
from fastsam_batch.sources.parquetrows import ColumnNames
from fastsam_batch.sources.shards import ShardReader


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_neighbours_in_a_tar_cost_about_one_reading_of_it(tmp_path: Path, suffix: str) -> None:
    random = np.random.default_rng(0)
    images = {f"{number:03d}.png": random.bytes(5000) for number in range(200)}
    data = tar_bytes(images.items())
    shard = tmp_path / f"shard{suffix}"
    shard.write_bytes(gzip.compress(data, 1) if suffix == ".tar.gz" else data)
    reader = ShardReader()
    CountedFile.total = 0
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda name: reader.read(f"counted://{shard}#{name}"), images))
    assert found == list(images.values())
    assert shard.stat().st_size * 0.9 < CountedFile.total < 2.5 * shard.stat().st_size
    assert reader.read(f"counted://{shard}#003.png") == images["003.png"]
    with pytest.raises(FileNotFoundError, match=r"999\.png"):
        reader.read(f"counted://{shard}#999.png")
    assert reader.read(f"counted://{shard}#150.png") == images["150.png"]
    reader.close()


def test_rows_of_parquet_in_order_cost_one_reading_of_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = [random.bytes(5000) for _ in range(200)]
    path = tmp_path / "shard.parquet"
    for name in ("bytes", "jpg"):
        pq.write_table(pa.table({name: images}), path, row_group_size=100, compression="none")
        reader = ShardReader(columns=ColumnNames(bytes=name))
        CountedFile.total = 0
        assert [reader.read(f"counted://{path}#{row}") for row in range(200)] == images
        assert CountedFile.total < 2 * path.stat().st_size
        reader.close()
    for column in (ColumnNames(), ColumnNames(bytes="jpg")):  # a row that is not there, whoever asks
        reader = ShardReader(columns=column)
        with pytest.raises((OSError, KeyError)):
            reader.read(f"counted://{path}#200")
        reader.close()


def test_what_was_read_of_a_tar_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_KEPT_BYTES", 60_000)
    images = {f"{number}.png": bytes([number]) * 5000 for number in range(6)} | {"large.png": b"l" * 20_000}
    (tmp_path / "shard.tar").write_bytes(tar_bytes(images.items()))
    reader = ShardReader()
    for _ in range(5):  # too large to be kept: the others are passed over each time
        assert reader.read(f"counted://{tmp_path}/shard.tar#large.png") == images["large.png"]
    CountedFile.total = 0
    for name in ("0.png", "5.png", "0.png"):
        assert reader.read(f"counted://{tmp_path}/shard.tar#{name}") == images[name]
    assert CountedFile.total == 0
    reader.close()

    reader = ShardReader()
    assert reader.read(f"counted://{tmp_path}/shard.tar#3.png") == images["3.png"]
    CountedFile.total = 0
    assert reader.read(f"counted://{tmp_path}/shard.tar#3.png") == images["3.png"]
    assert CountedFile.total == 0  # what was asked for, too
    reader.close()


def test_other_uris_and_names_that_look_like_members(tmp_path: Path) -> None:
    odd = tmp_path / "odd.tar#cat.png"
    odd.write_bytes(b"a file of its own")
    plain = tmp_path / "plain.png"
    plain.write_bytes(b"plain")
    reader = ShardReader()
    assert reader.read(str(odd)) == b"a file of its own" and reader.read(str(plain)) == b"plain"
    assert reader.read("demo:coffee.png").startswith(b"\x89PNG")
    for number in range(4):  # more tars than stay open
        (tmp_path / f"{number}.tar").write_bytes(tar_bytes(small_images(3).items()))
    for number in (0, 1, 2, 3, 0, 1):
        assert reader.read(f"{tmp_path}/{number}.tar#0002.png") == small_images(3)["0002.png"]
