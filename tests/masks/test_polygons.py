"""Outlines and polygons of masks, filled back by pycocotools and by OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco
from reference.polygons import count_holes, count_parts, part_masks
from skimage.transform import resize

from fastsam_batch.masks.outline import Part, area_of, outline
from fastsam_batch.masks.polygons import (
    edge_rings,
    fill_edges,
    fill_pixels,
    iou_of,
    joined,
    pixel_parts,
    pixel_rings,
    simplify,
)
from fastsam_batch.masks.rle import Rle
from fastsam_batch.masks.runs import runs_of

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()).filter(np.any)


def rle_of(mask: np.ndarray) -> Rle:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return Rle(mask.shape, encoded["counts"].decode())


def parts_of(mask: np.ndarray) -> list[Part]:
    return outline(runs_of(rle_of(mask)), mask.shape[0])


def blob(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth mask with holes and parts."""
    field = np.random.default_rng(seed).normal(size=(height // 12 + 1, width // 12 + 1))
    return resize(field, (height, width), order=3) > 0.1


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_parts_and_holes_are_those_of_the_mask(mask: np.ndarray) -> None:
    parts = parts_of(mask)
    assert len(parts) == count_parts(mask)
    assert sum(len(part.holes) for part in parts) == count_holes(mask)
    for part, expected in zip(parts, part_masks(mask), strict=True):
        assert len(part.holes) == count_holes(expected)
        loops = (part.outer, *part.holes)
        assert sum(area_of(loop) for loop in loops) == expected.sum()
        filled = coco.frPyObjects([loop.reshape(-1).astype(float).tolist() for loop in loops], *mask.shape)
        outer, *holes = (coco.decode(rle).astype(bool) for rle in filled)
        assert np.array_equal(outer & ~np.any(holes, axis=0) if holes else outer, expected)
        for loop in loops:
            walls = loop.reshape(-1, 2, 2)
            assert (walls[:, 0, 0] == walls[:, 1, 0]).all() and (walls[:, 0, 1] != walls[:, 1, 1]).all()
            assert (walls[:, 1, 1] == np.roll(walls[:, 0, 1], -1)).all()


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_polygons_with_bridged_holes_fill_back_to_the_pixel(mask: np.ndarray) -> None:
    rings = [joined(*edge_rings(part)) for part in parts_of(mask)]
    assert np.array_equal(coco.decode(fill_edges(rings, mask.shape).to_coco()), mask)


def sizes_by_edges(mask: np.ndarray) -> list[tuple[int, list[int]]]:
    """Pixels in each part's outer loop and in its holes, sorted, by the loops along pixel edges."""
    parts = [(area_of(part.outer), sorted(-area_of(hole) for hole in part.holes)) for part in parts_of(mask)]
    return sorted((int(outer), [int(hole) for hole in holes]) for outer, holes in parts)


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_rings_through_pixels_stay_on_the_mask_and_count_what_they_hold(mask: np.ndarray) -> None:
    parts = pixel_parts(mask)
    assert sorted((part.pixels, sorted(part.hole_pixels)) for part in parts) == sizes_by_edges(mask)
    for part in parts:
        for ring in (part.outer, *part.holes):
            column, row = (ring - 0.5).astype(int).T
            assert mask[row, column].all()
            steps = np.abs(ring - np.roll(ring, 1, axis=0))
            assert ((steps == 0).any(axis=1) | (steps[:, 0] == steps[:, 1])).all()


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_rings_through_pixels_fill_back_to_the_pixel_without_holes(mask: np.ndarray) -> None:
    height, width = mask.shape
    filled = np.zeros_like(mask)
    for part in pixel_parts(mask, (5, 3)):
        if not part.holes:
            filled |= fill_pixels(part.outer, (5, 3, width, height))
    expected = [each for each in part_masks(mask) if not count_holes(each)]
    assert np.array_equal(filled, np.any(expected, axis=0) if expected else np.zeros_like(mask))


@pytest.mark.parametrize("seed", range(6))
def test_bridges_over_the_mask_cost_nothing_in_whole_pixels(seed: int) -> None:
    mask = np.pad(blob(240, 200, seed), 3)
    filled = np.zeros_like(mask)
    for part in pixel_parts(mask):
        filled |= fill_pixels(joined(*pixel_rings(part.outer, part.holes)), (0, 0, *mask.shape[::-1]))
    assert count_holes(mask) > 0
    assert (filled & mask).sum() / (filled | mask).sum() > 0.99


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0])
def test_simplified_rings_have_fewer_vertices_and_stay_close(tolerance: float) -> None:
    mask = blob(400, 300, 3)
    parts = parts_of(mask)
    exact = [joined(*edge_rings(part)) for part in parts]
    rings = [joined(*edge_rings(part, tolerance)) for part in parts]
    assert sum(map(len, rings)) < 0.9 * sum(map(len, exact))
    assert iou_of(rle_of(mask), fill_edges(exact, mask.shape)) == 1
    assert (iou_of(rle_of(mask), fill_edges(rings, mask.shape)) < 1) == (tolerance > 0.5)
    assert iou_of(rle_of(mask), fill_edges(rings, mask.shape)) > 0.9


def test_vertices_on_straight_edges_are_left_out() -> None:
    square = np.array([(0, 0), (1, 0), (2, 0), (2, 2), (0, 2), (0, 1)], float)
    assert simplify(square, 0).tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]]
    line = np.array([(0, 0), (1, 0), (2, 0), (1, 0)], float)
    assert simplify(line, 0).tolist() == [[0, 0], [2, 0]]


def test_a_hole_that_the_tolerance_closes_is_left_out_and_a_speck_stays() -> None:
    mask = np.ones((40, 40), bool)
    mask[20, 20] = False
    (part,) = parts_of(mask)
    assert len(edge_rings(part)[1]) == 1
    assert edge_rings(part, 2.0)[1] == []
    (speck,) = parts_of(~mask)
    assert len(edge_rings(speck, 2.0)[0]) == 4


def test_no_pixels_no_parts() -> None:
    assert outline(runs_of(Rle((3, 4), "<")), 3) == []
