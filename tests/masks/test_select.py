"""Selection on runs against the same on dense pixels, exactly."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from reference.select import select_box, select_points
from reference.select import smooth as dense_smooth

from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle, decode_in_box, pack_counts
from fastsam_batch.masks.runs import complement, difference, rle_of, runs_of, runs_of_pixels, union
from fastsam_batch.masks.select import ImageMasks, select
from fastsam_batch.masks.smooth import smooth

# The bar of 10,000 cases: FASTSAM_BATCH_CASES=10000 pytest tests/masks/test_select.py
CASES = int(os.environ.get("FASTSAM_BATCH_CASES", "300"))


@st.composite
def dense_masks(draw, most=8):
    """bool [n, H, W]: discs, rectangles, noise, whole frames, columns; none empty, some alike, many nested."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y, x = np.mgrid[:height, :width]
    masks = []
    for kind in draw(st.lists(st.sampled_from(["disc", "rectangle", "noise", "frame", "again"]), max_size=most)):
        centre_y, centre_x = rng.integers(height), rng.integers(width)
        if kind == "disc":
            mask = np.hypot(y - centre_y, x - centre_x) <= rng.uniform(0, 12)
        elif kind == "rectangle":
            mask = (abs(y - centre_y) <= rng.integers(12)) & (abs(x - centre_x) <= rng.integers(12))
        elif kind == "again" and masks:
            mask = masks[rng.integers(len(masks))]
        else:
            mask = rng.random((height, width)) < (1 if kind == "frame" else rng.uniform(0.05, 0.95))
        if mask.any():
            masks.append(mask)
    return np.stack(masks) if masks else np.zeros((0, height, width), bool)


def encoded(masks):
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


def stored(masks):
    rles = encoded(masks)
    boxes = np.array([coco_mask.toBbox(rle) for rle in rles], np.float32).reshape(-1, 4)
    counts = [rle["counts"].decode() for rle in rles]
    return ImageMasks(masks.shape[1:], counts, masks.sum((1, 2)).astype(np.int32), boxes)


def pixels_of(runs, size):
    return decode_in_box(rle_of(runs, size), (0, 0, size[1], size[0]))


def points_in(masks):
    height, width = masks.shape[1:]
    whole = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    return st.lists(whole | st.tuples(*(st.floats(0, side, exclude_max=True) for side in (width, height))), max_size=4)


def boxes_in(masks):
    height, width = masks.shape[1:]
    corner = st.tuples(st.integers(-3, width - 1), st.integers(-3, height - 1))
    sizes = st.tuples(st.integers(5, 30), st.integers(5, 30))
    shift = st.sampled_from([0, 0.25, 0.5])
    made = st.builds(lambda a, s, f: (a[0] - f, a[1] - f, a[0] + s[0] - f, a[1] + s[1] - f), corner, sizes, shift)
    return st.lists(made, max_size=3)


@settings(max_examples=CASES, deadline=None)
@given(dense_masks(), st.booleans(), st.data())
def test_every_kind_of_prompt_as_the_dense_reference(masks, smallest, data):
    foreground, background = data.draw(points_in(masks)), data.draw(points_in(masks))
    boxes = data.draw(boxes_in(masks))
    chosen = data.draw(st.sets(st.integers(0, len(masks) - 1), max_size=2)) if len(masks) else set()

    found = select(
        stored(masks), foreground=foreground, background=background, boxes=boxes, chosen=chosen, smallest=smallest
    )

    answers = [select_box(masks, box) for box in boxes]
    assert [(match.mask, match.iou) for match in found.boxes] == answers
    assert [match.box for match in found.boxes] == boxes
    picked = chosen | {mask for mask, _ in answers if mask is not None}
    expected, added = select_points(masks, foreground, background, smallest, picked)
    assert found.masks == added
    np.testing.assert_array_equal(pixels_of(found.union, masks.shape[1:]), expected)
    assert rle_of(found.union, masks.shape[1:]).counts == encoded([expected])[0]["counts"].decode()


@given(dense_masks(most=5))
def test_algebra_of_runs(masks):
    size, pixels = masks.shape[1:], masks[0].size if len(masks) else 1
    runs = [runs_of(Rle(size, rle["counts"].decode())) for rle in encoded(masks)]
    np.testing.assert_array_equal(pixels_of(union(runs), size), masks.any(0))
    for mask, its in zip(masks, runs, strict=True):
        assert its.area == mask.sum()
        np.testing.assert_array_equal(pixels_of(complement(its, pixels), size), ~mask)
        np.testing.assert_array_equal(pixels_of(difference(its, runs[0], pixels), size), mask & ~masks[0])
        again = runs_of_pixels(mask, 0, 0, size[0])
        np.testing.assert_array_equal(again.starts, its.starts)
        np.testing.assert_array_equal(again.ends, its.ends)
        assert [its.contains(position) for position in range(pixels)] == mask.T.reshape(-1).tolist()


def test_runs_of_no_pixels_are_dropped_and_split_runs_joined():
    counts = np.array([0, 0, 2, 3, 0, 4, 1, 0, 2])
    runs = runs_of(Rle((3, 4), pack_counts(counts, np.array([len(counts)]))[0]))
    assert (runs.starts.tolist(), runs.ends.tolist()) == ([2], [9])


@settings(max_examples=60, deadline=None)
@given(dense_masks(most=3), st.integers(0, 4))
def test_smoothing_as_the_dense_reference(masks, radius):
    mask = masks.any(0)
    found = smooth(runs_of_pixels(mask, 0, 0, mask.shape[0]), mask.shape, radius)
    np.testing.assert_array_equal(pixels_of(found, mask.shape), dense_smooth(mask, radius))


def nested():
    """A disc in a disc in a rectangle, 20 x 20."""
    y, x = np.mgrid[:20, :20]
    away = np.hypot(y - 10, x - 10)
    return np.stack([away <= 3, (abs(y - 10) < 9) & (abs(x - 10) < 9), away <= 6])


def test_background_wins_within_a_mask_and_a_smaller_one_is_added_after():
    found = select(stored(nested()), foreground=[(10, 10)], background=[(10, 15)])
    assert found.masks == [0]  # the ring around it holds the background point, and so does the rectangle
    assert found.union.area == nested()[0].sum()


def test_smallest():
    assert select(stored(nested()), foreground=[(10, 10), (10, 15)], smallest=True).masks == [0, 2]


def test_answers_in_the_order_of_the_boxes():
    boxes = [(7, 7, 14, 14), (0, 0, 20, 20), (7, 7, 14, 14), (19, 0, 20, 1)]
    assert [match.mask for match in select(stored(nested()), boxes=boxes).boxes] == [0, 1, 0, None]


def test_no_masks_at_all():
    found = select(stored(np.zeros((0, 4, 6), bool)), foreground=[(5, 3)], boxes=[(0, 0, 2, 2)])
    assert found.masks == [] and found.union.area == 0
    assert [(match.mask, match.iou) for match in found.boxes] == [(None, 0.0)]


def test_only_masks_whose_boxes_hold_the_point_are_parsed():
    size = (10, 10)
    masks = ImageMasks(size, ["broken", "o3"], np.array([4, 1]), np.array([[0, 0, 2, 2], [9, 9, 1, 1]]))
    with pytest.raises(ValueError, match="run-length"):
        select(masks, foreground=[(1, 1)])
    with pytest.raises(ValueError, match="add up"):
        select(masks, boxes=[(9, 9, 10, 10)])
    assert select(masks, foreground=[(5, 5)], boxes=[(4, 4, 6, 6)]).masks == []


@pytest.mark.parametrize("point", [(-1, 0), (0, -0.5), (20, 0), (0, 20), (float("nan"), 0)])
@pytest.mark.parametrize("kind", ["foreground", "background"])
def test_points_outside_the_image(kind, point):
    with pytest.raises(InputError, match=r"outside the image of 20 x 20"):
        select(stored(nested()), **{kind: [point]})


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((5, 5, 5, 9), "is empty"),
        ((9, 9, 5, 5), "is empty"),
        ((0, 0, float("nan"), 5), "is empty"),
        ((0, 0, float("inf"), 5), "is empty"),
        ((20, 0, 30, 5), "covers no pixel"),
        ((-9, 0, 0, 5), "covers no pixel"),
        ((3.1, 0, 3.4, 5), "covers no pixel"),
    ],
)
def test_boxes_that_are_none(box, reason):
    with pytest.raises(InputError, match=reason):
        select(stored(nested()), boxes=[box])
