"""Tiles and their masks: the grid, moving, joining, leaving out and NMS, against dense pixels."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.tiles import merge

from fastsam_batch.masks.rle import decode_in_box
from fastsam_batch.masks.runs import rle_of, runs_of, runs_of_pixels
from fastsam_batch.masks.tiles import Found, merge_tiles, moved, tile_boxes

CASES = int(os.environ.get("FASTSAM_BATCH_CASES", "200"))


def found(masks):
    """Found of [(mask bool [h, w], score, stability)]."""
    runs = [runs_of_pixels(mask, 0, 0, mask.shape[0]) for mask, _, _ in masks]
    scores, stability = (np.array([each[place] for each in masks], np.float32) for place in (1, 2))
    return Found(runs, scores, stability)


def merged(whole, tiles, image_hw, margin=1, most=100):
    """[(mask bool [H, W], score, stability)] of the fast merge, its areas and boxes checked."""
    together = merge_tiles(found(whole), [(box, found(masks)) for box, masks in tiles], image_hw, margin, most)
    out = []
    for runs, score, stability, area, box in zip(
        together.runs, together.scores, together.stability, together.areas, together.bboxes_xywh, strict=True
    ):
        rle = rle_of(runs, image_hw)
        again = runs_of(rle)
        np.testing.assert_array_equal(again.starts, runs.starts)  # canonical: no two runs touch
        mask = decode_in_box(rle, (0, 0, image_hw[1], image_hw[0]))
        assert area == mask.sum()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert box.tolist() == [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        out.append((mask, float(score), float(stability)))
    return out


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(4, 120).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile // 2))),
)
def test_the_grid_covers_the_image_with_tiles_of_one_size(image_hw, sizes):
    tile, overlap = sizes
    boxes = tile_boxes(image_hw, tile, overlap)
    height, width = image_hw
    if max(image_hw) <= tile:
        assert boxes == []
        return
    assert {(bottom - top, right - left) for left, top, right, bottom in boxes} == {
        (min(tile, height), min(tile, width))
    }
    for low, high, length in ((0, 2, width), (1, 3, height)):
        spans = sorted({(box[low], box[high]) for box in boxes})
        assert spans[0][0] == 0 and spans[-1][1] == length
        for before, after in zip(spans, spans[1:], strict=False):
            assert before[1] - after[0] >= overlap
        assert len(spans) == 1 or (len(spans) - 2) * (tile - overlap) + tile < length  # no more than are needed
    assert len(boxes) == len(set(boxes))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 5), st.integers(0, 5), st.integers(0, 2**31))
def test_moved_masks_have_their_pixels_in_their_places(tile_h, tile_w, left, top, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((tile_h, tile_w)) < rng.choice([0.3, 0.9, 1.0])
    image_hw = top + tile_h + int(rng.integers(0, 3)), left + tile_w + int(rng.integers(0, 3))
    expected = np.zeros(image_hw, bool)
    expected[top : top + tile_h, left : left + tile_w] = mask
    runs = moved(runs_of_pixels(mask, 0, 0, tile_h), (left, top, left + tile_w, top + tile_h), image_hw[0])
    again = runs_of_pixels(expected, 0, 0, image_hw[0])
    np.testing.assert_array_equal(runs.starts, again.starts)
    np.testing.assert_array_equal(runs.ends, again.ends)


@st.composite
def tiled_images(draw):
    """Things of an image as each tile sees them, a few pixels wrong, and those that the whole image shows."""
    height, width = draw(st.integers(8, 40)), draw(st.integers(8, 40))
    tile = draw(st.integers(6, 20))
    overlap = draw(st.integers(0, tile // 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    y, x = np.mgrid[:height, :width]
    things = []
    for _ in range(draw(st.integers(0, 6))):
        centre_y, centre_x, radius = rng.integers(height), rng.integers(width), rng.uniform(1, 14)
        if rng.random() < 0.5:
            things.append(np.hypot(y - centre_y, x - centre_x) <= radius)
        else:
            things.append((abs(y - centre_y) <= radius) & (abs(x - centre_x) <= rng.uniform(1, 20)))

    def seen(masks, wrong):
        out = []
        for mask in masks:
            mask = mask ^ (rng.random(mask.shape) < wrong)
            if mask.any():
                # Few values, so that many are equal; as float32, as the models give them.
                score, stability = (float(np.float32(rng.choice([0.2, 0.5, 0.9]))) for _ in range(2))
                out.append((mask, score, stability))
        return out

    wrong = float(rng.choice([0, 0, 0.02, 0.1]))
    tiles = [
        (box, seen([thing[box[1] : box[3], box[0] : box[2]] for thing in things], wrong))
        for box in tile_boxes((height, width), tile, overlap)
    ]
    return seen(things, wrong), tiles, (height, width), int(rng.integers(1, 4)), int(rng.choice([1, 3, 100]))


@settings(max_examples=CASES, deadline=None)
@given(tiled_images())
def test_merging_as_on_dense_pixels(image):
    expected, result = merge(*image), merged(*image)
    assert [each[1:] for each in result] == [each[1:] for each in expected]
    for (mask, _, _), (reference, _, _) in zip(result, expected, strict=True):
        np.testing.assert_array_equal(mask, reference)


HW = (60, 100)
BOXES = tile_boxes(HW, 60, 20)  # 0 to 60 and 40 to 100


def rectangle(left, top, right, bottom):
    mask = np.zeros(HW, bool)
    mask[top:bottom, left:right] = True
    return mask


def tiles_of(*things):
    """What exact tiles give for things with scores."""
    return [
        (
            box,
            [(part, score, score) for mask, score in things if (part := mask[box[1] : box[3], box[0] : box[2]]).any()],
        )
        for box in BOXES
    ]


def test_a_thing_across_two_tiles_is_joined_with_the_lowest_score():
    thing = rectangle(10, 20, 90, 40)
    tiles = tiles_of((thing, 0.5))
    tiles[1] = (tiles[1][0], [(tiles[1][1][0][0], 0.25, 0.75)])
    ((mask, score, stability),) = merged([], tiles, HW)
    np.testing.assert_array_equal(mask, thing)
    assert (score, stability) == (0.25, 0.5)


def test_what_one_tile_cuts_and_its_neighbour_has_whole_is_taken_from_the_neighbour():
    thing = rectangle(45, 20, 90, 40)  # cut by the first tile at 60
    ((mask, _, _),) = merged([], tiles_of((thing, 0.5)), HW)
    np.testing.assert_array_equal(mask, thing)


def test_a_cut_mask_without_a_partner_is_left_out_and_the_whole_image_s_mask_stays():
    thing = rectangle(10, 20, 90, 40)
    tiles = tiles_of((thing, 0.9))
    tiles[1] = (tiles[1][0], [])
    assert merged([], tiles, HW) == []
    ((mask, score, _),) = merged([(thing, 0.25, 0.5)], tiles, HW)
    np.testing.assert_array_equal(mask, thing)
    assert score == 0.25


def test_at_the_image_s_own_border_nothing_is_cut():
    thing = rectangle(0, 0, 20, 60)
    ((mask, _, _),) = merged([], tiles_of((thing, 0.5)), HW)
    np.testing.assert_array_equal(mask, thing)


@pytest.mark.parametrize(("margin", "kept"), [(2, 1), (3, 0)])
def test_the_margin_says_how_near_a_border_counts_as_cut(margin, kept):
    thing = rectangle(30, 20, 58, 40)  # two pixels short of the first tile's border; the second shows a part of it
    tiles = [(BOXES[0], tiles_of((thing, 0.5))[0][1]), (BOXES[1], [])]
    assert len(merged([], tiles, HW, margin=margin)) == kept


def test_of_two_things_side_by_side_each_finds_its_own_other_half():
    upper, lower = rectangle(10, 5, 90, 25), rectangle(10, 27, 90, 55)
    result = merged([], tiles_of((upper, 0.5), (lower, 0.25)), HW)
    assert [score for _, score, _ in result] == [0.5, 0.25]
    np.testing.assert_array_equal(result[0][0], upper)
    np.testing.assert_array_equal(result[1][0], lower)


def test_a_thing_over_four_tiles_in_a_square():
    image_hw = (100, 100)
    thing = np.zeros(image_hw, bool)
    thing[15:85, 20:80] = True
    tiles = [(box, [(thing[box[1] : box[3], box[0] : box[2]], 0.5, 0.5)]) for box in tile_boxes(image_hw, 60, 20)]
    assert len(tiles) == 4
    ((mask, _, _),) = merged([], tiles, image_hw)
    np.testing.assert_array_equal(mask, thing)


def test_the_better_of_two_like_masks_is_kept_and_at_most_so_many():
    things = [(rectangle(x, 10, x + 10, 20), 0.25) for x in (0, 15, 70, 85)]
    coarse = [(rectangle(0, 10, 11, 20), 0.5, 0.5)]
    result = merged(coarse, tiles_of(*things), HW)
    assert [score for _, score, _ in result] == [0.5, 0.25, 0.25, 0.25]
    np.testing.assert_array_equal(result[0][0], coarse[0][0])
    assert [score for _, score, _ in merged(coarse, tiles_of(*things), HW, most=2)] == [0.5, 0.25]


def test_no_masks_anywhere():
    assert merged([], [(box, []) for box in BOXES], HW) == []
