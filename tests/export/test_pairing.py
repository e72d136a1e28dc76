"""Which labelled image an image of a corpus is: names that are alike in several folders."""

from __future__ import annotations

import pytest

from fastsam_batch.errors import InputError
from fastsam_batch.export.pairing import pair_names


@pytest.mark.parametrize(
    ("image_ids", "names", "pairs"),
    [
        (["a/1.jpg"], ["a/1.jpg", "b/1.jpg"], {"a/1.jpg": 0}),
        (["b/1.jpg", "a/1.jpg"], ["a/1.jpg", "b/1.jpg"], {"a/1.jpg": 0, "b/1.jpg": 1}),
        (["shard.tar/a/1.jpg", "a/2.jpg"], ["1.jpg", "x/2.jpg"], {"shard.tar/a/1.jpg": 0, "a/2.jpg": 1}),
        (["val2017/1.jpg"], ["http://images.org/train2017/1.jpg", "http://images.org/val2017/1.jpg"], {0: 1}),
        (["train/1.jpg", "val/1.jpg"], ["val/1.jpg"], {"val/1.jpg": 0}),
        (["x/b/1.jpg", "y/1.jpg"], ["1.jpg", "b/1.jpg"], {"y/1.jpg": 0, "x/b/1.jpg": 1}),
        (["1.jpg", "b/1.jpg"], ["1.jpg", "b/1.jpg"], {"1.jpg": 0, "b/1.jpg": 1}),
        (["c/1.jpg", "a/1.jpg"], ["a/1.jpg", "b/1.jpg"], {"a/1.jpg": 0}),
        (["rows.parquet#a#1.jpg", "2.jpg"], ["./a/1.jpg", "/data//2.jpg"], {"rows.parquet#a#1.jpg": 0, "2.jpg": 1}),
        (["11.jpg"], ["1.jpg"], {}),
    ],
)
def test_folders_tell_images_apart(image_ids, names, pairs):
    expected = {image_ids[0] if key == 0 else key: number for key, number in pairs.items()}
    assert pair_names(image_ids, dict(enumerate(names))) == expected


@pytest.mark.parametrize(
    ("image_ids", "names", "said"),
    [
        (["train/1.jpg", "val/1.jpg"], ["1.jpg"], r"1.jpg \(id 0\) may be train/1.jpg or val/1.jpg of the corpus"),
        (["train/1.jpg", "val/1.jpg"], ["test/1.jpg"], "may be train/1.jpg or val/1.jpg"),
        (["1.jpg"], ["a/1.jpg", "b/1.jpg"], r"1.jpg of the corpus may be a/1.jpg \(id 0\) or b/1.jpg \(id 1\)"),
        (["a/1.jpg"], ["1.jpg", "1.jpg"], r"may be 1.jpg \(id 0\) or 1.jpg \(id 1\)"),
    ],
)
def test_what_may_be_two_is_refused(image_ids, names, said):
    with pytest.raises(InputError, match=said):
        pair_names(image_ids, dict(enumerate(names)))


def test_many_images_of_one_name_take_no_time_of_pairs():
    names = {number: f"{number}/rgb.png" for number in range(20_000)}
    assert pair_names((f"{number}/rgb.png" for number in range(10_000, 30_000)), names) == {
        f"{number}/rgb.png": number for number in range(10_000, 20_000)
    }
