"""The same command again, where the input is no longer what the stored plan was made of."""

from __future__ import annotations

import pytest
from sources.made_inputs import plan, small_images, write_parquet, write_tar

from fastsam_batch.config import segment_options
from fastsam_batch.corpus.plan import write_plan
from fastsam_batch.errors import InputError
from fastsam_batch.run import segment_corpus
from fastsam_batch.sources import open_source


def write(name, path, count):
    images = small_images(count)
    path.mkdir(exist_ok=True)
    if name == "s.tar":
        write_tar(path / name, images.items())
    elif name == "s.parquet":
        write_parquet(path / name, {"bytes": list(images.values())})
    else:
        (path / name).write_bytes(images["0000.png"] if name.endswith(".png") else b"uri\n/photos/a.png\n")


def run(folder, output, **options):
    given = {"input": str(folder), "output": str(output), "embedder": "none", **options}
    return segment_corpus(segment_options(given))


@pytest.mark.parametrize("name", ["s.tar", "s.parquet"])
def test_a_shard_that_changed_is_refused_where_a_limit_is_reached(tmp_path, name):
    write(name, tmp_path / "in", 6)
    write_plan(str(tmp_path / "out"), 1, plan(open_source(str(tmp_path / "in")), limit=4))
    write(name, tmp_path / "in", 60)
    with pytest.raises(InputError, match=rf"{name} changed since it was planned"):
        run(tmp_path / "in", tmp_path / "out", limit=4)


@pytest.mark.parametrize(
    ("planned", "added", "message"),
    [
        ("s.parquet", "preview.png", "planned from the Parquet files in it, and .* read as images"),
        ("s.parquet", "s.tar", "planned from the Parquet files in it, and .* read as tar shards"),
        ("m.csv", "s.parquet", "planned from the manifests in it, and .* read as Parquet files"),
        ("m.csv", "preview.png", "planned from the manifests in it, and .* read as images"),
    ],
)
def test_an_input_that_is_taken_for_another_kind_is_refused(tmp_path, planned, added, message):
    write(planned, tmp_path / "in", 6)
    write_plan(str(tmp_path / "out"), 1, plan(open_source(str(tmp_path / "in"))))
    write(added, tmp_path / "in", 6)
    with pytest.raises(InputError, match=message):
        run(tmp_path / "in", tmp_path / "out")
