"""What the CLIP recipe learns from: the split, the nouns, the labels on the crops."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from made_data import COLOURS

from fastsam_batch.errors import InputError
from fastsam_batch.models.embedder import Embedder
from training.clip.augment import augmented
from training.clip.crops import crops_of, read_crops, write_crops
from training.clip.model import FILL_RGB
from training.clip.nouns import nouns_of
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


def test_labels_match_pixels_and_crops_are_the_embedders(data_folder, tmp_path):
    data = read_data(data_folder)
    write_crops(data.train, tmp_path, None, 112, FILL_RGB)
    crops = read_crops(tmp_path)
    assert len(crops.rows) == len(crops.pixels)
    for row, pixels in zip(crops.rows, crops.pixels, strict=True):
        if row.name:
            assert np.abs(pixels[46:66, 46:66].mean((0, 1)) - COLOURS[row.name]).max() < 8
    photograph = next(photograph for photograph in data.train if photograph.things)
    embedder = Embedder("builtin")
    boxes = np.array([thing.box_xywh for thing in photograph.things], np.float32)
    pyramid = embedder.pyramid(read_image(photograph.path))
    theirs = embedder.crops_of(pyramid, [thing.rle for thing in photograph.things], boxes, "both")
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
