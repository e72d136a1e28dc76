"""Ids that other programs can make anew, and outputs that are not on this disk."""

from __future__ import annotations

import hashlib
import json

import fsspec
import pytest
from corpus.made_corpus import MadeCorpus

from fastsam_batch.cli import job
from fastsam_batch.export.ids import fraction_of, image_number, mask_number


def test_ids_are_the_documented_bits() -> None:
    def documented(key: str) -> int:
        return int(hashlib.sha256(key.encode()).hexdigest(), 16) >> (256 - 53)

    assert image_number("shard.tar/cup.jpg") == documented("shard.tar/cup.jpg") == 1900271482577488
    assert mask_number("shard.tar/cup.jpg", 7) == documented("shard.tar/cup.jpg\n7")
    assert all(0 < image_number(str(number)) < 2**53 for number in range(1000))
    assert all(0 <= fraction_of(str(number)) < 1 for number in range(1000))
    assert 400 < sum(fraction_of(str(number)) < 0.5 for number in range(1000)) < 600


@pytest.mark.parametrize(
    ("format_", "output", "made"),
    [
        ("coco", "labels.json", ["labels.json"]),
        ("cvat", "labels.zip", ["labels.zip"]),
        ("sa1b", "sa", ["sa/astronaut.json", "sa/coins.json"]),
        ("label-studio", "ls", ["ls/label_config.xml", "ls/tasks-00001.json"]),
    ],
)
def test_outputs_in_another_store(made_once: MadeCorpus, format_: str, output: str, made: list[str]) -> None:
    store = f"memory://exports-{format_}"
    arguments = ["--corpus", made_once.uri, "--format", format_, "--output", f"{store}/{output}"]
    assert job("export", arguments) == 0
    fs, root = fsspec.core.url_to_fs(store)
    assert all(fs.size(f"{root}/{name}") for name in made)
    if format_ == "sa1b":
        assert json.loads(fs.cat_file(f"{root}/sa/astronaut.json"))["image"]["file_name"] == "astronaut.png"
        assert job("export", arguments) == 2  # the folder is not empty any more
