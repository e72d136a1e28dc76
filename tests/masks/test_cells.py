"""A mask's shares of a grid's cells, against the dense mask."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fastsam_batch.masks.cells import cell_shares
from fastsam_batch.masks.rle import Rle


def shares_of(mask, grid):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = np.array(coco_mask.toBbox(rle), np.float32)
    return cell_shares(Rle(tuple(rle["size"]), rle["counts"].decode()), box, grid)


def by_pixels(mask, grid):
    rows, columns = (np.arange(side) * cells // side for side, cells in zip(mask.shape, grid, strict=True))
    counts = np.zeros(grid)
    np.add.at(counts, (rows[:, None], columns[None]), mask)
    return (counts / mask.sum()).ravel()


@pytest.mark.parametrize(("hw", "grid"), [((12, 20), (3, 5)), ((31, 47), (7, 9)), ((5, 40), (5, 3)), ((8, 8), (1, 1))])
def test_small_cells_are_counted_by_the_pixel(hw, grid):
    rng = np.random.default_rng(0)
    for share in (0.05, 0.5, 0.95):
        mask = rng.random(hw) < share
        mask[rng.integers(hw[0]), rng.integers(hw[1])] = True
        np.testing.assert_allclose(shares_of(mask, grid), by_pixels(mask, grid), atol=1e-6)


def test_large_cells_are_sampled():
    y, x = np.mgrid[:600, :900]
    mask = (y - 300) ** 2 + (x - 500) ** 2 < 200**2
    found, expected = shares_of(mask, (9, 13)), by_pixels(mask, (9, 13))
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(found - expected).max() < 0.008


def test_what_no_sample_meets_has_no_share():
    mask = np.zeros((640, 640), bool)
    mask[10] = True
    mask[:, 10] = False
    assert shares_of(mask, (2, 2)).sum() in (0, pytest.approx(1))
