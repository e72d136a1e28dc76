"""A unit as it is stored beside what its shard gives now."""

from __future__ import annotations

from typing import Any

import pytest
from corpus.made_corpus import MadeCorpus, write_unit

from fastsam_batch.corpus.rows import ImageResult
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.sources.base import EncodedImage
from fastsam_batch.stored import StoredUnit


def rows_of(made: MadeCorpus, unit_id: str) -> list[dict]:
    return [row for row in made.images if row["unit_id"] == unit_id]


def test_a_unit_keeps_its_images_whatever_its_shard_gives(made_once: MadeCorpus) -> None:
    """Members renamed in a tar: none is lost, and none is new."""
    unit_id = next(row["unit_id"] for row in made_once.images if row["status"] == "failed")
    rows = rows_of(made_once, unit_id)
    assert len(rows) > 1
    unit = StoredUnit(made_once.uri, unit_id)
    whole = [EncodedImage(row["image_id"], row["uri"], b"1") for row in rows]
    assert [image.data for image in unit.to_decode(whole)] == [b"1" if row["status"] == "ok" else None for row in rows]

    found = unit.to_decode([EncodedImage("stranger.png", "stranger.png", b"2"), *whole[1:]])
    assert [image.image_id for image in found] == [row["image_id"] for row in rows]
    gone = found[0]
    assert (gone.uri, gone.data, gone.error_kind) == (rows[0]["uri"], None, "missing")
    assert gone.error_message == f"{rows[0]['uri']} is no longer there"
    broken = EncodedImage("s.tar#broken", "s.tar", None, "broken_shard", "the tar shard is broken after 0 images")
    assert {image.error_message for image in unit.to_decode([broken])} == {broken.error_message}


def test_of_images_that_failed_no_store_need_answer(made_once: MadeCorpus) -> None:
    unit_id = next(row["unit_id"] for row in made_once.images if row["status"] == "failed")
    rows = rows_of(made_once, unit_id)

    def fetched(status: str) -> list[EncodedImage]:
        gone = ("unreachable", "s3://b/x could not be reached")
        return [
            EncodedImage(row["image_id"], row["uri"], *((None, *gone) if row["status"] == status else (b"1",)))
            for row in rows
        ]

    found = StoredUnit(made_once.uri, unit_id).to_decode(fetched("failed"))
    assert [image.data for image in found] == [b"1" if row["status"] == "ok" else None for row in rows]
    with pytest.raises(OutageError, match="s3://b/x could not be reached"):
        StoredUnit(made_once.uri, unit_id).to_decode(fetched("ok"))
    recorded = StoredUnit(made_once.uri, unit_id, record_unreachable=True).to_decode(fetched("ok"))
    assert {image.error_kind for image in recorded} == {"unreachable", None}


def test_an_image_that_changed_has_no_size(made_once: MadeCorpus) -> None:
    row = next(row for row in made_once.images if row["status"] == "ok")
    unit = StoredUnit(made_once.uri, row["unit_id"])
    found = unit.checked(ImageResult(row["image_id"], row["uri"], sha256="0" * 64, image_hw=(5, 5)))
    assert (found.error_kind, found.image_hw) == ("changed", None)
    same = ImageResult(row["image_id"], row["uri"], sha256=row["sha256"], image_hw=(5, 5))
    assert unit.checked(same) == same


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("bbox", [1.0, 1.0, 2.0, 2.0]),  # smaller than the mask
        ("bbox", [0.0, 0.0, 0.0, 9.0]),
        ("bbox", [1e6, 1e6, 2.0, 2.0]),
        ("bbox", None),  # the mask's, moved by half a pixel
        ("rle", {"size": [300, 400], "counts": "zz"}),
        ("rle", {"size": [2, 2], "counts": "13"}),  # of another image
    ],
)
def test_a_mask_that_is_not_what_its_box_says_is_told(made: MadeCorpus, column: str, value: Any) -> None:
    """On a GPU it would end the process, and with it what other images' masks are embedded there."""
    row = next(row for row in made.images if row["n_masks"] > 2)
    unit_id, image_id = row["unit_id"], row["image_id"]
    images = rows_of(made, unit_id)
    masks = [mask for mask in made.masks if mask["image_id"] in {image["image_id"] for image in images}]
    as_made = StoredUnit(made.uri, unit_id).masks(image_id)
    assert len(as_made.rles) == row["n_masks"]
    place = next(index for index, mask in enumerate(masks) if (mask["image_id"], mask["mask_index"]) == (image_id, 2))
    box = masks[place]["bbox"]
    wrong = [box[0] + 0.5, *box[1:]] if value is None else value
    write_unit(made.uri, unit_id, images, [*masks[:place], masks[place] | {column: wrong}, *masks[place + 1 :]])
    with pytest.raises(InputError, match=f"the mask 2 of {image_id} is broken, empty, or not what its box says"):
        StoredUnit(made.uri, unit_id).masks(image_id)
