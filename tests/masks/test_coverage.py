"""Exact coverage of a grid's cells against averages of the dense mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from fastsam_batch.masks.coverage import box_coverage
from fastsam_batch.masks.rle import Rle, pack_counts


def averaged(mask, grid_hw):
    """Every pixel repeated until cells are whole numbers of pixels, then averaged."""
    rows, columns = grid_hw
    fine = mask.repeat(rows, 0).repeat(columns, 1).astype(np.float64)
    return fine.reshape(rows, mask.shape[0], columns, mask.shape[1]).mean((1, 3))


def encoded(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return Rle(mask.shape, rle["counts"].decode()), tuple(int(value) for value in coco_mask.toBbox(rle))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**31), st.sampled_from([0.1, 0.5, 0.97, 1.0]))
def test_equals_averages_of_the_dense_mask(data, height, width, seed, density):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < density
    mask[rng.integers(height), rng.integers(width)] = True
    rle, (x, y, w, h) = encoded(mask)
    grid = data.draw(st.integers(1, 2 * h + 5)), data.draw(st.integers(1, 2 * w + 5))  # cells smaller than pixels too
    np.testing.assert_allclose(
        box_coverage(rle, (x, y, w, h), grid), averaged(mask[y : y + h, x : x + w], grid), atol=1e-6
    )


@pytest.mark.parametrize("grid", [(1, 1), (7, 3), (40, 60)])
def test_a_full_box_is_covered_throughout(grid):
    rle, box = encoded(np.ones((40, 60), bool))
    assert (box_coverage(rle, box, grid) == 1).all()


@pytest.mark.parametrize("grid", [(7, 3), (41, 60), (40, 61), (200, 300)])
def test_cells_smaller_than_pixels(grid):
    mask = np.random.default_rng(0).random((40, 60)) < 0.5
    rle, _ = encoded(mask)
    np.testing.assert_allclose(box_coverage(rle, (0, 0, 60, 40), grid), averaged(mask, grid), atol=1e-6)


@pytest.mark.parametrize("hw", [(1, 1), (3, 5), (1, 40), (40, 1), (640, 400)])
@pytest.mark.parametrize("grid", [(1, 1), (4, 4), (13, 21)])
def test_over_the_image_a_mask_has_all_of_its_pixels(hw, grid):
    rng = np.random.default_rng(1)
    thin = np.zeros(hw, bool)
    thin[10 % hw[0]] = True  # a line of one pixel, however large the cells are
    for mask in (thin, thin & (rng.random(hw) < 0.5), rng.random(hw) < 0.3, np.ones(hw, bool)):
        mask[rng.integers(hw[0]), rng.integers(hw[1])] = True
        covered = box_coverage(encoded(mask)[0], (0, 0, hw[1], hw[0]), grid)
        assert covered.sum() * mask.size / np.prod(grid) == pytest.approx(mask.sum(), rel=1e-5)
        np.testing.assert_allclose(covered, averaged(mask, grid), atol=1e-6)


@pytest.mark.parametrize("counts", [[1, 2, 1, 0, 8], [1, 2, 1, 0, 3, 5], [0, 0, 4, 0, 4, 2, 2], [0, 12], [12]])
def test_runs_of_no_pixels_cover_nothing(counts):
    (text,) = pack_counts(np.array(counts), np.array([len(counts)]))
    mask = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(3, 4).T
    for grid in ((2, 2), (4, 3), (5, 7)):
        found = box_coverage(Rle((4, 3), text), (0, 0, 3, 4), grid)
        np.testing.assert_allclose(found, averaged(mask, grid), atol=1e-6)
