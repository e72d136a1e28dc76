"""Scenes of the segmenter's training: what a label covers is what is painted there."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from made_data import COLOURS

from fastsam_batch.errors import InputError
from training.photographs import read_data
from training.segmenter.__main__ import compose, split
from training.segmenter.backgrounds import divided, regions
from training.segmenter.compose import filmed, lay, shape
from training.segmenter.pictures import Cutout, pictures_in, read_sprite
from training.segmenter.scene import Instance, Scene, moved, targets

SIDE = 128


@pytest.fixture(scope="module")
def composer(data_folder):
    return compose(read_data(data_folder).train, [], [], seed=0)


def frame_of(one: Instance, side: int = SIDE) -> np.ndarray:
    frame = np.zeros((side, side), bool)
    frame[one.y : one.y + one.mask.shape[0], one.x : one.x + one.mask.shape[1]] = one.mask > 0
    return frame


@pytest.mark.parametrize("kind", ["real", "mosaic"])
def test_labels_of_photographs_lie_on_their_objects(composer, kind):
    seen = 0
    colours = np.array(list(COLOURS.values()))
    for _ in range(30):
        scene = getattr(composer, kind)(SIDE)
        labels = scene.labels()
        seen += len(labels)
        apart = np.abs(scene.image[:, :, None].astype(int) - colours).max(3).min(2)  # from the nearest object's colour
        labelled = np.zeros((SIDE, SIDE), bool)
        for one in labels:
            inside = frame_of(one)
            labelled |= inside
            deep = cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0) > 0
            assert not deep.any() or np.median(apart[deep]) < 12  # JPEG and resampling blend the borders
        assert (apart[~labelled] < 12).mean() < 0.08  # borders, and slivers too small for a label
    assert seen > 40


def test_what_is_pasted_covers_what_was_there():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = Scene(np.zeros((SIDE, SIDE, 3), np.uint8), [Instance(0, 0, np.full((SIDE, SIDE), 255, np.uint8), 1)])
        colour = np.full((40, 40, 3), 200, np.uint8)
        for size in (150, 60, 20):
            lay(scene, Cutout(colour, np.full((40, 40), 255, np.uint8)), size, rng)
        frames = np.stack([frame_of(one) for one in scene.instances])
        assert (frames.sum(0) == 1).all()  # every pixel belongs to one: the last that was laid there
        painted = scene.image[:, :, 0] > 60
        assert (painted == frames[1:].any(0)).mean() > 0.97


def test_hidden_and_tiny_instances_are_no_labels():
    mask = np.full((20, 20), 255, np.uint8)
    scene = Scene(
        np.zeros((64, 64, 3), np.uint8), [Instance(0, 0, mask.copy(), 400), Instance(30, 30, mask[:4, :4], 16)]
    )
    assert len(scene.labels()) == 1
    scene.cover(0, 0, np.full((20, 15), 255, np.uint8))
    assert [one.area for one in scene.labels()] == [100]
    scene.cover(15, 0, np.full((5, 5), 255, np.uint8))
    assert not scene.labels()  # 75 of 400 left


def test_a_moved_mask_is_where_the_map_puts_it():
    found = moved(np.full((10, 20), 255, np.uint8), 5, 7, np.array([[2.0, 0, -4], [0, 2.0, 6]]), 64)
    assert found is not None
    rows, columns = np.nonzero(frame_of(found, 64))
    assert abs(rows.min() - 20) <= 1 and abs(rows.max() - 39) <= 1
    assert abs(columns.min() - 6) <= 1 and abs(columns.max() - 45) <= 1
    assert moved(np.full((10, 20), 255, np.uint8), 0, 0, np.array([[1.0, 0, 90], [0, 1.0, 0]]), 64) is None


def test_targets_are_tight_and_keep_the_area(composer):
    scene = composer.scene(SIDE)
    boxes, shares = targets(scene.instances, SIDE)
    for one, box, share in zip(scene.instances, boxes, shares, strict=True):
        rows, columns = np.nonzero(frame_of(one))
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert share.sum(dtype=float) * 16 / 255 == pytest.approx(one.area, rel=0.02, abs=3)


def test_regions_fill_the_frame_and_differ():
    rng = np.random.default_rng(3)
    photograph = rng.integers(0, 256, (90, 120, 3), np.uint8)
    for _ in range(12):
        scene = regions(lambda: photograph, SIDE, rng)
        assert 2 <= len(np.unique(divided(SIDE, rng))) <= 5
        assert (sum(frame_of(one).astype(int) for one in scene.instances) == 1).all()


def test_shapes_are_often_thin():
    rng = np.random.default_rng(0)
    aspects = []
    for _ in range(60):
        height, width = shape(np.full((64, 64, 3), 90, np.uint8), rng).alpha.shape
        aspects.append(max(height, width) / min(height, width))
    assert 15 < sum(aspect > 3 for aspect in aspects) < 45


def test_filming_keeps_shape_and_type():
    image = np.full((32, 32, 3), 120, np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(30):
        out = filmed(image, rng)
        assert out.shape == image.shape and out.dtype == np.uint8


def test_the_same_seed_makes_the_same_scenes(data_folder):
    first, second = (compose(read_data(data_folder).train, [], [], seed=5) for _ in range(2))
    for _ in range(5):
        one, other = first.scene(64), second.scene(64)
        np.testing.assert_array_equal(one.image, other.image)
        assert len(one.instances) == len(other.instances)


def test_a_second_split_is_of_the_other_folder_only(data_folder):
    photographs = read_data(data_folder).train
    assert split(photographs, 5) == ([], photographs)  # the made folder has no coco-masks-more


def test_folders_and_sprites_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        pictures_in(tmp_path / "missing")
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="opacity"):
        read_sprite(tmp_path / "x.png")
