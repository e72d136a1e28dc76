"""Hits without near-duplicates: of masks of one image that cover nearly the same pixels, the best stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle
from fastsam_batch.masks.runs import Runs, iou, runs_of
from fastsam_batch.search.best import Hit, MaskKey


def distinct_hits(hits: Sequence[Hit], rows: Mapping[MaskKey, Mapping[str, Any]], max_iou: float) -> list[Hit]:
    """The hits whose mask has an IoU below `max_iou` with every better one kept, in the order given.

    `rows` holds the `bbox` (xywh) and `rle` of every hit by (image_id, mask_index). Raises InputError for a
    broken RLE.
    """
    kept: list[Hit] = []
    of_image: dict[str, list[MaskKey]] = defaultdict(list)
    runs: dict[MaskKey, Runs] = {}
    for hit in hits:
        key = hit.image_id, hit.mask_index
        near = [other for other in of_image[hit.image_id] if _may_reach(rows[key], rows[other], max_iou)]
        for each in [key, *near] if near else []:
            if each not in runs:
                runs[each] = _runs(each, rows[each])
        if all(iou(runs[key], runs[other]) < max_iou for other in near):
            kept.append(hit)
            of_image[hit.image_id].append(key)
    return kept


def check_max_iou(max_iou: float) -> None:
    """Raise InputError unless the IoU can part masks."""
    if not 0 < max_iou <= 1:
        raise InputError(f"--distinct {max_iou:g}: an IoU is above 0 and at most 1; 0.8 is usual")


def _may_reach(mask: Mapping[str, Any], other: Mapping[str, Any], max_iou: float) -> bool:
    """False where areas and boxes alone keep the IoU of two masks below the limit."""
    (x, y, width, height), (left, top, wide, high) = mask["bbox"], other["bbox"]
    shared_width = min(x + width, left + wide) - max(x, left)
    shared_height = min(y + height, top + high) - max(y, top)
    if shared_width <= 0 or shared_height <= 0:
        return False
    most = min(mask["area"], other["area"], shared_width * shared_height)
    return bool(most >= max_iou * max(mask["area"], other["area"]))


def _runs(key: MaskKey, row: Mapping[str, Any]) -> Runs:
    try:
        return runs_of(Rle.from_coco(row["rle"]))
    except ValueError as error:
        raise InputError(f"mask {key[1]} of {key[0]!r} is broken ({error}); verify_corpus names its file") from error
