"""A unit as it is stored beside what its shard gives now."""

from __future__ import annotations

import pytest
from corpus.made_corpus import MadeCorpus

from fastsam_batch.corpus.rows import ImageResult
from fastsam_batch.errors import OutageError
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
