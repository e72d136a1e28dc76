"""What an annotator is given: fewer masks, and none of them twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastsam_batch.errors import InputError
from fastsam_batch.export.images import BEST_RANK, ExportMask, RankBy
from fastsam_batch.masks.overlap import duplicates, nested
from fastsam_batch.ranges import check_range


@dataclass(frozen=True)
class Budget:
    """Rules by which masks of one image are left out, in this order.

    `min_score`: lower scores. `min_area`: fewer pixels. `duplicate_iou`: from the highest rank down, masks whose IoU
    with one before of the same label reaches it. `nested_share`: masks with at least this share of their pixels
    in a larger one of the same label. `top_n`: all but the highest ranks. None: the rule is off. `rank_by` says
    what ranks masks.
    """

    min_score: float | None = None
    min_area: int | None = None
    duplicate_iou: float | None = None
    nested_share: float | None = None
    top_n: int | None = None
    rank_by: RankBy = BEST_RANK

    def __post_init__(self) -> None:
        check_range("--min-score", self.min_score, 0, 1)
        check_range("--min-area", self.min_area, 0)
        check_range("--top-n", self.top_n, 1)
        for name, value in (("--duplicates", self.duplicate_iou), ("--nested", self.nested_share)):
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{name} is {value:g}; give a share above 0 and up to 1")


def within(budget: Budget, masks: Sequence[ExportMask]) -> tuple[list[ExportMask], dict[str, int]]:
    """The masks of one image that the budget keeps, by mask_index, and how many each rule left out."""
    rules = {
        "min_score": budget.min_score,
        "min_area": budget.min_area,
        "duplicates": budget.duplicate_iou,
        "nested": budget.nested_share,
        "top_n": budget.top_n,
    }
    left_out = {rule: 0 for rule, threshold in rules.items() if threshold is not None}
    ranked = sorted(masks, key=lambda mask: (-mask.worth(budget.rank_by), mask.mask_index))

    def keep(rule: str, kept: list[ExportMask]) -> list[ExportMask]:
        left_out[rule] = len(ranked) - len(kept)
        return kept

    if budget.min_score is not None:
        least = np.float32(budget.min_score)  # scores are stored as float32
        ranked = keep("min_score", [mask for mask in ranked if mask.score >= least])
    if budget.min_area is not None:
        ranked = keep("min_area", [mask for mask in ranked if mask.area >= budget.min_area])
    for rule, find, threshold in (
        ("duplicates", duplicates, budget.duplicate_iou),
        ("nested", nested, budget.nested_share),
    ):
        if threshold is not None and ranked:
            rles = [mask.rle for mask in ranked]
            areas = np.array([mask.area for mask in ranked], np.int64)
            boxes = np.array([mask.bbox_xywh for mask in ranked], np.float64)
            labels = np.array([mask.label for mask in ranked], np.int64)
            out = find(rles, areas, boxes, labels, threshold)
            ranked = keep(rule, [mask for mask, gone in zip(ranked, out, strict=True) if not gone])
    if budget.top_n is not None:
        ranked = keep("top_n", ranked[: budget.top_n])
    return sorted(ranked, key=lambda mask: mask.mask_index), left_out
