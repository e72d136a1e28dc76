"""Exact coverage of a grid's cells against averages of the dense mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from fastsam_batch.masks.coverage import box_coverage
from fastsam_batch.masks.rle import Rle


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
    grid = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    np.testing.assert_allclose(
        box_coverage(rle, (x, y, w, h), grid), averaged(mask[y : y + h, x : x + w], grid), atol=1e-6
    )


@pytest.mark.parametrize("grid", [(1, 1), (7, 3), (40, 60)])
def test_a_full_box_is_covered_throughout(grid):
    rle, box = encoded(np.ones((40, 60), bool))
    assert (box_coverage(rle, box, grid) == 1).all()
