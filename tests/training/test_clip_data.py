"""What the CLIP recipe learns from: the split, the nouns, the labels on the crops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_data import COLOURS

from fastsam_batch.errors import InputError
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter
from training.clip.augment import augmented
from training.clip.crops import Row, all_crops, crops_of, read_crops, write_crops
from training.clip.model import FILL_RGB
from training.clip.nouns import kinds_of, nouns_of, surface_forms
from training.clip.sprites import SCENES_A_SPRITE, sprite_crops, sprite_name
from training.photographs import read_data, read_image


def test_forty_photographs_are_held_out_of_every_source(data_folder):
    data = read_data(data_folder)
    held_out = {photograph.path.name for photograph in data.validation}
    assert len(held_out) == len(data.validation) == 40
    assert not held_out & {p.path.name for p in data.train if p.source in ("coco-masks", "coco-captions")}
    assert {photograph.path.name for photograph in read_data(data_folder).validation} == held_out
    assert sum(photograph.source == "coco-masks" for photograph in data.train) == 12


def test_a_folder_without_masks_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"coco-masks/instances\.json"):
        read_data(tmp_path)


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("Two men riding a horse-drawn carriage down the street.", ["man", "horse", "carriage", "street"]),
        ("A kitten on a sofa with remotes and a baseball bat", ["cat", "couch", "remote", "baseball bat"]),
        ("buses parked near knives and dishes", ["bus", "knife", "dish"]),
        ("a cat and another cat", ["cat"]),
        ("it is very nice", []),
    ],
)
def test_nouns_of_a_caption(caption, nouns):
    assert nouns_of(caption) == nouns


def test_a_noun_is_its_own_even_where_it_is_another_ones_word():
    forms = surface_forms()
    assert forms["tv"] == "tv" and forms["tvs"] == forms["televisions"] == "television"
    assert all(forms[noun] == noun for noun in forms.values())


def test_kinds_of_things_are_nouns_of_captions(data_folder):
    nouns, names = set(surface_forms().values()), read_data(data_folder).coco_names
    of_name = {name: kinds_of(name) for name in (*names, "person", "train", "tv", "hat")}
    assert {"woman", "skier"} <= of_name["person"] and not of_name["hat"]
    assert all(kinds <= nouns for kinds in of_name.values())


def test_a_woman_is_the_person_and_no_other_mask(data_folder):
    """Of what a caption names each mask has what it may be: the thing its kinds, the others what is no kind of it."""
    photograph = next(photograph for photograph in read_data(data_folder).train if photograph.things)
    thing = replace(photograph.things[0], name="person")
    captioned = replace(photograph, things=(thing,), captions=("A woman in a hat", "a lady and a tree"))
    segmenter = Segmenter(find_segmenter("builtin").main, conf=0.01)
    nouns = {(row.group, row.name): set(row.nouns) for row, _ in crops_of(captioned, segmenter, 32, FILL_RGB)}
    assert nouns == {
        ("taught", "person"): {"woman"},
        ("caption", None): {"woman", "hat", "tree"},
        ("found", None): {"hat", "tree"},
    }


def test_crops_that_are_there_are_whole(tmp_path):
    """Rows are put beside those that are there, never over them: what a kill leaves is the old or the new."""
    crops = [(Row("whole", "made", "context", name="cat"), np.zeros((4, 4, 3), np.uint8))]
    write_crops(crops, tmp_path, 4)
    before = (tmp_path / "rows.json").read_text()
    with (tmp_path / "rows.json").open() as old:
        write_crops(crops * 2, tmp_path, 4)
        assert old.read() == before
    assert len(read_crops(tmp_path).rows) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"crops.bin", "rows.json"}


def test_labels_match_pixels_and_crops_are_the_embedders(data_folder, tmp_path):
    data = read_data(data_folder)
    write_crops(all_crops(data.train, None, 112, FILL_RGB), tmp_path, 112)
    crops = read_crops(tmp_path)
    assert len(crops.rows) == len(crops.pixels)
    for row, pixels in zip(crops.rows, crops.pixels, strict=True):
        if row.name:
            assert np.abs(pixels[46:66, 46:66].mean((0, 1)) - COLOURS[row.name]).max() < 8
    photograph = next(photograph for photograph in data.train if photograph.things)
    embedder = Embedder("builtin")
    boxes = np.array([thing.box_xywh for thing in photograph.things], np.float32)
    source = embedder.crop_source(read_image(photograph.path))
    theirs = embedder.crops_of(source, [thing.rle for thing in photograph.things], boxes, "both")
    ours = [pixels for _, pixels in crops_of(photograph, None, embedder.image_size, embedder.fill_rgb)]
    np.testing.assert_array_equal(np.stack(ours), np.stack([crop for pair in theirs for crop in pair]))


def test_augmented_crops_keep_size_and_centre():
    crop = np.full((112, 112, 3), FILL_RGB, np.uint8)
    cv2.circle(crop, (56, 56), 50, (250, 10, 10), -1)
    rng = np.random.default_rng(0)
    redder = 0
    for _ in range(40):
        seen = augmented(crop, 64, FILL_RGB, rng)
        assert seen.shape == (64, 64, 3) and seen.dtype == np.uint8
        middle = seen[24:40, 24:40].reshape(-1, 3).mean(0)
        redder += middle[0] > middle[1] + 20
    assert redder > 28  # all but grey and erased ones


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("1f680.webp", "rocket"),
        ("1f431.png", "cat"),  # Unicode's "cat face"
        ("1f3a9.webp", "top hat"),
        ("26f5-fe0f.webp", "sailboat"),
        ("1f600.webp", None),  # grinning
        ("0023-fe0f-20e3.webp", None),
        ("1f468-200d-1f373.webp", None),
        ("1f6ab.webp", None),  # no entry sign
    ],
)
def test_names_of_sprites(file, name):
    assert sprite_name(Path(file)) == name


def test_sprites_are_cropped_where_they_lie(tmp_path):
    red = np.zeros((64, 64, 4), np.uint8)
    cv2.circle(red, (32, 32), 30, (0, 0, 255, 255), -1)
    background = np.full((90, 120, 3), (0, 200, 0), np.uint8)
    for name, pixels in (("1f680.png", red), ("1f600.png", red), ("background.png", background)):
        cv2.imwrite(str(tmp_path / name), pixels)
    paths = [tmp_path / "1f600.png", tmp_path / "1f680.png"]
    crops = list(sprite_crops(paths, [tmp_path / "background.png"], 80, FILL_RGB, np.random.default_rng(0)))
    assert [(row.group, row.name, row.kind) for row, _ in crops] == [
        ("sprite", "rocket", "masked"),
        ("sprite", "rocket", "context"),
    ] * SCENES_A_SPRITE
    for row, pixels in crops:
        assert np.abs(pixels[36:44, 36:44].mean((0, 1)) - (255, 0, 0)).max() < 8
        corner = pixels[2, 2].astype(int)
        near = np.abs(corner - FILL_RGB.astype(int)).max() < 4
        assert near if row.kind == "masked" else near or np.abs(corner - (0, 200, 0)).max() < 8
