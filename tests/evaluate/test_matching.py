"""The matching that follows changes against one made anew, and thinning against scikit-image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.morphology
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.edges import pairs_at_most

from fastsam_batch.evaluate.matching import PixelMatcher
from fastsam_batch.evaluate.thinning import thin


def lines(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    """Random strokes: what makes long alternating paths, unlike scattered pixels."""
    canvas = np.zeros(shape, np.uint8)
    for _ in range(count):
        ends = rng.integers(0, shape[::-1], (2, 2)).tolist()
        cv2.line(canvas, tuple(ends[0]), tuple(ends[1]), 1)
    return canvas > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1.0, 1.5, 2.3, 4.34]), st.booleans())
def test_stays_maximum_while_pixels_come_and_go(seed, radius, scattered):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 30)), int(rng.integers(1, 30)))
    truth = rng.random(shape) < 0.15 if scattered else lines(rng, shape, 3)
    possible = rng.random(shape) < rng.choice([0.5, 1])
    matcher = PixelMatcher(truth, radius, possible)
    found = np.zeros(shape, bool)
    for _ in range(8):
        change = rng.random(shape) < rng.choice([0.02, 0.1, 0.4]) if scattered else lines(rng, shape, 2)
        found = (found ^ change) & possible
        partnered = matcher.update(found)
        assert matcher.matched == len(partnered) == pairs_at_most(found, truth, radius)
        assert found.ravel()[partnered].all() and len(set(partnered.tolist())) == len(partnered)


def test_the_nearest_pixel_is_the_partner():
    truth, found = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    truth[4, 4] = found[4, 5] = found[4, 1] = found[1, 4] = True
    assert PixelMatcher(truth, 4, found).update(found).tolist() == [4 * 9 + 5]


def test_the_nearest_among_hundreds_of_distances():
    radius = 0.0075 * 5000
    squares = {y * y + x * x: (y, x) for y in range(38) for x in range(38) if y * y + x * x <= radius * radius}
    distances = sorted(squares)
    assert len(distances) > 400
    truth, found = np.zeros((80, 80), bool), np.zeros((80, 80), bool)
    truth[40, 40] = found[40, 42] = True
    y, x = squares[distances[256]]
    found[40 - y, 40 - x] = True
    assert PixelMatcher(truth, radius, found).update(found).tolist() == [40 * 80 + 42]


def test_no_pair_is_longer_than_the_radius():
    truth, found = np.zeros((1, 20), bool), np.zeros((1, 20), bool)
    truth[0, 3] = found[0, 6] = True
    assert PixelMatcher(truth, 2.99, found).update(found).size == 0
    assert PixelMatcher(truth, 3, found).update(found).tolist() == [6]


def test_nobody_drew_anything():
    matcher = PixelMatcher(np.zeros((5, 5), bool), 2, np.ones((5, 5), bool))
    assert matcher.update(np.ones((5, 5), bool)).size == 0 and matcher.matched == matcher.truths == 0


@pytest.mark.parametrize("blur", [0, 1, 3])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.95])
def test_thins_as_scikit_image_does(blur, share):
    noise = np.random.default_rng(0).random((90, 140)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    mask = noise >= np.quantile(noise, share)
    np.testing.assert_array_equal(thin(mask), skimage.morphology.thin(mask))
