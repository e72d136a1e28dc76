"""The annotator's budget against its rules on dense masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from fastsam_batch.export.budget import Budget, within
from fastsam_batch.export.images import ExportMask
from fastsam_batch.masks.rle import Rle

SIDE = 12


def export_mask(index: int, pixels: np.ndarray, score: float, label: int) -> ExportMask:
    encoded = coco.encode(np.asfortranarray(pixels.astype(np.uint8)))
    box = tuple(int(value) for value in coco.toBbox(encoded))
    rle = Rle(pixels.shape, encoded["counts"].decode())
    return ExportMask(index, box, int(pixels.sum()), score, 1.0, rle, label)


def rectangle(x: int, y: int, width: int, height: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + height, x : x + width] = True
    return mask


RECTANGLES = st.tuples(*[st.integers(0, SIDE // 2)] * 2, *[st.integers(1, SIDE // 2)] * 2)
IMAGES = st.lists(st.tuples(RECTANGLES, st.sampled_from([0.2, 0.5, 0.9]), st.integers(0, 1)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(IMAGES, st.sampled_from([None, 0.3, 0.5, 1.0]), st.sampled_from([None, 0.5, 0.9, 1.0]))
def test_duplicates_and_nested_masks_by_their_rules(drawn, duplicate_iou, nested_share) -> None:
    dense = [rectangle(*place) for place, _, _ in drawn]
    masks = [export_mask(index, dense[index], score, label) for index, (_, score, label) in enumerate(drawn)]
    ranked = sorted(masks, key=lambda mask: (-mask.score, mask.mask_index))

    kept: list[ExportMask] = []
    for mask in ranked:
        for other in kept:
            a, b = dense[mask.mask_index], dense[other.mask_index]
            same = mask.label == other.label and duplicate_iou is not None
            if same and (a & b).sum() / (a | b).sum() >= duplicate_iou:
                break
        else:
            kept.append(mask)
    expected = []
    for place, mask in enumerate(kept):
        a = dense[mask.mask_index]
        larger = [
            other
            for at, other in enumerate(kept)
            if other.label == mask.label and (other.area, -at) > (mask.area, -place)
        ]
        shares = [(a & dense[other.mask_index]).sum() / a.sum() for other in larger]
        if nested_share is None or all(share < nested_share for share in shares):
            expected.append(mask)

    found, left_out = within(Budget(duplicate_iou=duplicate_iou, nested_share=nested_share), masks)
    assert found == sorted(expected, key=lambda mask: mask.mask_index)
    assert sum(left_out.values()) == len(masks) - len(expected)


def test_scores_areas_and_the_best_n() -> None:
    places = [(0, 0, 2, 2), (0, 0, 6, 6), (6, 6, 5, 5), (2, 2, 3, 3)]
    masks = [export_mask(index, rectangle(*place), 0.1 * (index + 1), 0) for index, place in enumerate(places)]
    kept, left_out = within(Budget(min_score=0.15, min_area=9, top_n=2), masks)
    assert [mask.mask_index for mask in kept] == [2, 3]
    assert left_out == {"min_score": 1, "min_area": 0, "top_n": 1}
    assert within(Budget(), masks) == (masks, {})


def test_a_score_equal_to_the_least_is_kept() -> None:
    stored = float(np.float32(0.7))  # a little below 0.7
    mask = export_mask(0, rectangle(0, 0, 2, 2), stored, 0)
    assert within(Budget(min_score=0.7), [mask])[0] == [mask]


@pytest.mark.parametrize("rule", ["duplicate_iou", "nested_share"])
def test_other_labels_are_other_things(rule: str) -> None:
    pixels = rectangle(1, 1, 5, 5)
    masks = [export_mask(0, pixels, 0.9, 0), export_mask(1, pixels, 0.8, 1), export_mask(2, pixels, 0.7, 0)]
    kept, _ = within(Budget(**{rule: 1.0}), masks)
    assert [mask.mask_index for mask in kept] == [0, 1]


@pytest.mark.parametrize(("rank_by", "kept"), [("score", [0, 1]), ("stability", [1, 2]), ("product", [1, 2])])
def test_what_ranks_masks(rank_by, kept) -> None:
    values = [(0.9, 0.3), (0.8, 0.7), (0.6, 0.9)]
    masks = [
        replace(export_mask(index, rectangle(4 * index, 0, 3, 3), score, 0), stability=stability)
        for index, (score, stability) in enumerate(values)
    ]
    found, _ = within(Budget(top_n=2, rank_by=rank_by), masks)
    assert [mask.mask_index for mask in found] == kept
    # Of two alike, the one that ranks lower is left out.
    alike = [replace(mask, rle=masks[0].rle, bbox_xywh=masks[0].bbox_xywh) for mask in masks]
    (best,), _ = within(Budget(duplicate_iou=0.5, rank_by=rank_by), alike)
    assert best.mask_index == {"score": 0, "stability": 2, "product": 1}[rank_by]


def test_the_product_ranks_unless_told() -> None:
    assert Budget().rank_by == "product"


def test_every_rule_in_force_is_counted_in_its_order() -> None:
    budget = Budget(min_score=0.9, duplicate_iou=0.8, nested_share=0.9, top_n=2)
    masks = [export_mask(0, rectangle(0, 0, 5, 5), 0.5, 0)]
    assert list(within(budget, masks)[1].items()) == [("min_score", 1), ("duplicates", 0), ("nested", 0), ("top_n", 0)]
