"""One image of a corpus of many units is found without opening the files of the others."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from corpus.made_corpus import DIM, MadeCorpus, receipt_of, write, write_unit

from fastsam_batch import Corpus
from fastsam_batch.corpus import plan as plans
from fastsam_batch.corpus import read
from fastsam_batch.corpus.plan import write_plan
from fastsam_batch.corpus.units_of import units_of_images
from fastsam_batch.errors import InputError
from fastsam_batch.search.cards import make_gallery
from fastsam_batch.search.find import find_masks
from fastsam_batch.search.likeness import mask_vectors
from fastsam_batch.sources.base import ImageRef, PlanRow
from fastsam_batch.storage import filesystem
from fastsam_batch.web.catalogue import Catalogue


def unit_of(made: MadeCorpus, image_id: str) -> str:
    return next(row["unit_id"] for row in made.images if row["image_id"] == image_id)


def break_others(made: MadeCorpus, unit_id: str) -> None:
    """Files that nobody may open: whoever does fails."""
    for other in {row["unit_id"] for row in made.images} - {unit_id}:
        for kind in ("images", "masks"):
            write(made.uri, f"{kind}/{other}.parquet", b"not to be opened")


def plan(made: MadeCorpus) -> None:
    shutil.rmtree(Path(made.uri) / "plan")
    rows = []
    for unit_id in sorted({row["unit_id"] for row in made.images}):
        names = [row["image_id"] for row in made.images if row["unit_id"] == unit_id]
        members = tuple(ImageRef(name, f"file:///{name}") for name in names)
        rows.append(PlanRow(unit_id, "", "members", 0, len(names), 128, None, members))
    write_plan(made.uri, 1, rows[:1])
    write_plan(made.uri, 2, rows[1:])


def test_by_the_plan(made: MadeCorpus) -> None:
    plan(made)
    break_others(made, unit_of(made, "coffee.png"))
    image = Corpus.open(made.uri).image("coffee.png")
    assert image.row == next(row for row in made.images if row["image_id"] == "coffee.png")
    assert image.masks.num_rows == sum(row["image_id"] == "coffee.png" for row in made.masks)


def test_several_images_and_what_asks_for_them(made: MadeCorpus) -> None:
    plan(made)
    break_others(made, "unit-0001")
    corpus = Corpus.open(made.uri)
    rows = {row["image_id"]: row for row in made.images if row["unit_id"] == "unit-0001"}
    assert len(rows) == 2 and corpus.image_rows(list(rows)) == rows
    assert corpus.image_rows([]) == {}
    assert mask_vectors(corpus, [("coffee.png", 3), ("rocket.png", 0)]).shape == (2, DIM)
    hits = find_masks(corpus.only(["unit-0001"]), like=[("coffee.png", 3)], top_k=2)
    gallery = make_gallery(corpus, hits, ["coffee.png#3"], None, 9, 0, corpus.photographs.pixels)
    assert [len(query.cards) for query in gallery.queries] == [2]
    with pytest.raises(InputError, match="cannot read images/unit-000"):  # else no file was opened to find them
        corpus.image_rows([*rows, "nowhere.jpg"])


def test_questions_about_a_unit_name_no_file_of_the_others(made: MadeCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming the files of all of them, unit by unit, took minutes for 2,000 units; so would reading receipts again."""
    plan(made)
    real, named = read.unit_files, []

    def counted(fs, paths, schema):
        named.append(len(paths))
        return real(fs, paths, schema)

    monkeypatch.setattr(read, "unit_files", counted)
    corpus = Corpus.open(made.uri)
    assert len(corpus.receipts()) == 3
    shutil.rmtree(Path(made.uri) / "receipts")
    wide = corpus.masks(["mask_index"], "width = 400")
    assert wide.num_rows == 24 and named == [3, 1, 1, 1]
    named.clear()
    Catalogue(corpus).page(1, 3)
    corpus.image("coffee.png")
    find_masks(corpus, like=[("coffee.png", 3)], top_k=1)
    assert set(named) == {1}


def test_by_the_shard(made: MadeCorpus) -> None:
    """Members of a tar lie in the units that name it, whose receipts are read already."""
    names = {"coffee.png": "a/b.tar/cup.jpg"}
    images = [row | {"image_id": name} for row in made.images for old, name in names.items() if row["image_id"] == old]
    masks = [row | {"image_id": names[row["image_id"]]} for row in made.masks if row["image_id"] in names]
    write_unit(made.uri, "unit-0009", [row | {"unit_id": "unit-0009"} for row in images], masks)
    for unit_id, shard in (("unit-0009", "a/b.tar"), ("unit-0000", "a")):
        write(
            made.uri, f"receipts/{unit_id}.json", json.dumps(receipt_of(made.uri, unit_id) | {"shard": shard}).encode()
        )
    break_others(made, "unit-0009")
    image = Corpus.open(made.uri).image("a/b.tar/cup.jpg")
    assert (image.row["unit_id"], image.masks.num_rows) == ("unit-0009", len(masks))


def test_the_longest_of_several_shards_among_many() -> None:
    names = [f"s/{number}" for number in range(50_000)] + ["a", "a/b.tar", "a/b.tar#c", "p.parquet"]
    receipts = {f"unit-{number}": {"shard": name} for number, name in enumerate(names)}
    asked = {"a/b.tar#c/x": 50_002, "a/b.tar/x/y": 50_001, "a/x": 50_000, "p.parquet#7": 50_003, "s/49999/z": 49_999}
    fs = fsspec.filesystem("memory")
    for image_id, number in asked.items():
        assert units_of_images(fs, "/nowhere", receipts, [image_id]) == [f"unit-{number}"]
    began = time.monotonic()
    assert (
        len(units_of_images(fs, "/nowhere", receipts, [f"{name}/{n}" for name in names[:2] for n in range(1000)])) == 2
    )
    assert time.monotonic() - began < 5  # by comparing each with each it is half a minute


def test_an_image_that_nothing_tells_of(made: MadeCorpus) -> None:
    plan(made)
    write(made.uri, "plan/0001.parquet", b"cut short")
    for row in made.images:
        assert Corpus.open(made.uri).image(row["image_id"]).row == row
    with pytest.raises(InputError, match=r"holds no image 'nowhere\.jpg'"):
        Corpus.open(made.uri).image("nowhere.jpg")


def test_of_a_large_plan_only_what_can_name_the_image_is_read(
    made: MadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "_MEMBERS_TOGETHER", 40)
    names = [f"2024/żółw {number:05d}.jpg" for number in range(1000)]
    members = [tuple(ImageRef(name, name) for name in names[start : start + 20]) for start in range(0, 1000, 20)]
    rows = [PlanRow(f"u{place:04d}", "", "members", 0, 20, 20, members=of) for place, of in enumerate(members)]
    write_plan(made.uri, 2, rows)
    fs, root = filesystem(made.uri)
    assert pq.ParquetFile(f"{root}/plan/0002.parquet").num_row_groups == 25
    receipts = {row.unit_id: {"shard": ""} for row in rows}
    assert units_of_images(fs, root, receipts, [names[0], names[999], names[40], "none"]) == ["u0000", "u0002", "u0049"]
    read = []
    real = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda file, **options: read.append(options) or real(file, **options)
    )
    assert units_of_images(fs, root, receipts, [names[40]]) == ["u0002"]
    assert [options["row_groups"] for options in read] == [[1]]
    write_plan(made.uri, 3, rows)  # nobody looks here, since all are found
    read.clear()
    assert units_of_images(fs, root, receipts, [names[40]]) == ["u0002"]
    assert [options["row_groups"] for options in read] == [[1]]
