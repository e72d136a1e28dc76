"""Labels that a segmenter makes: those its looks agree on, smooth, on their objects, and read again."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from made_data import COLOURS
from pycocotools import mask as coco_mask

from training.photographs import read_data
from training.segmenter.__main__ import compose
from training.segmenter.__main__ import main as train
from training.segmenter.compose import LABELLED, TAUGHT
from training.segmenter.teach import Seen, agreed, is_cut, main, smoothed
from training.taught import read_taught

SIDE = 64


def square(left: int, top: int, size: int, score: float) -> Seen:
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[top : top + size, left : left + size] = 1
    return Seen(coco_mask.encode(mask), score)


def test_a_mask_counts_when_two_looks_saw_it() -> None:
    looks = [
        [square(0, 0, 20, 0.6), square(40, 40, 12, 0.9), square(0, 40, 20, 0.1)],
        [square(1, 0, 20, 0.3), square(0, 40, 20, 0.1)],
        [square(1, 0, 20, 0.2), square(20, 20, 3, 0.4)],
    ]
    found = agreed(looks)
    assert [round(seen.score, 3) for seen in found] == [round((0.6 + 0.3 + 0.2) / 3, 3)]  # twice .1 is too little
    assert coco_mask.iou([found[0].rle], [looks[0][0].rle], [0])[0, 0] == 1
    assert agreed([[], []]) == [] and agreed([looks[0], [], []]) == []


def test_a_ragged_border_is_smoothed_and_a_hole_filled() -> None:
    disc = cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 70, (1,), -1)
    rough = disc.copy()
    rough[98:102, 98:102] = 0
    rough[100, 165:195] = 1  # a whisker
    rough[5:9, 5:9] = 1  # a crumb
    smooth = smoothed(rough)
    assert smooth is not None
    assert (smooth & disc).sum() / (smooth | disc).sum() > 0.99
    assert smooth[100, 100] == 1 and not smooth[:20].any() and not smooth[:, 180:].any()


def test_a_mask_as_pycocotools_decodes_it_may_fill_the_height() -> None:
    whole = np.zeros((60, 90), np.uint8)
    whole[:, 20:70] = 1
    decoded = coco_mask.decode(coco_mask.encode(np.asfortranarray(whole)))
    smooth = smoothed(decoded)
    assert smooth is not None and (smooth & whole).sum() / (smooth | whole).sum() > 0.97


def test_what_smoothing_would_change_is_left_out() -> None:
    ring = cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 70, (1,), 12)
    kept = smoothed(ring)
    assert kept is not None and kept[100, 100] == 0  # a hole that is part of the thing
    comb = np.zeros((200, 200), np.uint8)
    comb[20:180, 20:180:16] = 1
    comb[20:30, 20:180] = 1
    assert smoothed(comb) is None
    assert smoothed(np.zeros((20, 20), np.uint8)) is None


def test_a_mask_that_ends_at_a_straight_side_is_cut() -> None:
    disc = cv2.circle(np.zeros((200, 220), np.uint8), (110, 100), 70, (1,), -1)
    assert not is_cut(disc)
    right = disc.copy()
    right[:, 120:] = 0
    lower = disc.copy()
    lower[110:] = 0
    for half in (right, lower):
        assert all(is_cut(np.ascontiguousarray(turned)) for turned in (half, half[::-1], half[:, ::-1]))
    assert not is_cut(np.ascontiguousarray(right[:, :120]))  # the image ends there, too
    window = np.zeros((200, 220), np.uint8)
    window[40:120, 60:150] = 1
    assert not is_cut(window)
    small = np.zeros((200, 220), np.uint8)
    small[10:30, 10:50] = np.tri(20, 40, 20)
    assert not is_cut(small)


@pytest.fixture(scope="module")
def taught_file(data_folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("taught") / "taught.json"
    assert main(["--data", str(data_folder), "--output", str(file), "--threads", "1"]) == 0
    return file


def test_taught_masks_lie_on_the_objects(data_folder, taught_file) -> None:
    photographs = read_data(data_folder).train
    taught = read_taught([taught_file], photographs)
    assert taught and all(photograph.source == "coco-captions" for photograph in taught)
    composer = compose(photographs, [], [], 0, taught)
    colours = np.array(list(COLOURS.values()))
    on_objects = [
        (
            np.abs(photograph.image[y : y + h, x : x + w][mask > 0].astype(int)[:, None] - colours).max(2).min(1) < 25
        ).mean()
        for photograph in composer.taught
        for x, y, mask in photograph.masks
        for h, w in [mask.shape]
    ]
    assert len(on_objects) >= len(taught) and np.median(on_objects) > 0.7  # objects are a third of the pixels
    weights = {composer.real(96).negatives for _ in range(40)}
    assert weights == {LABELLED, TAUGHT}


def test_a_network_learns_from_them(data_folder, taught_file, tmp_path) -> None:
    arguments = ["--data", str(data_folder), "--output", str(tmp_path), "--taught", str(taught_file), "--steps", "2"]
    assert train([*arguments, "--sizes", "64", "--imgsz", "64", "--threads", "1", "--batch", "4"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["taught_photographs"] > 0 and metrics["taught_masks"] >= metrics["taught_photographs"]
