"""Class-agnostic proposals: how many labelled objects the first 10, 100 and 1000 masks of an image find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastsam_batch.errors import InputError
from fastsam_batch.evaluate.coco_files import Objects, TruthImage, result_objects
from fastsam_batch.evaluate.recall import IOU_THRESHOLDS, SIZES, Tally, area_under_recall
from fastsam_batch.evaluate.stored import mask_objects
from fastsam_batch.export.images import ExportImage, RankBy
from fastsam_batch.export.pairing import check_size, pair_names

BUDGETS = (10, 100, 1000)
Pair = tuple[TruthImage, dict[str, Objects]]


def proposal_figures(pairs: Iterable[Pair], kinds: Sequence[str], max_det: int) -> dict[str, Any]:
    """Recall and precision of proposals under each ranking and by each kind ("mask", "box").

    `pairs` gives each labelled image with its proposals by the ranking's name. Gives
    `images`, `truths`, and `figures` a ranking and a kind: AR@k and AR@k_small …, AUC, AP, AP50, AP75 and AP_small
    …, and `curve`, AR against the number of proposals. Figures without a labelled object of the size are None.
    Method: COCO with useCats=0; AUC is the mean of AR over the logarithm of 1 to `max_det` proposals.
    """
    tallies: dict[tuple[str, str], Tally] = {}
    images = 0
    for truth_image, by_ranking in pairs:
        truth = truth_image.objects()
        images += 1
        for ranking, found in by_ranking.items():
            for kind in kinds:
                tallies.setdefault((ranking, kind), Tally(max_det)).add(truth, found, kind)
    figures: dict[str, dict[str, Any]] = {}
    for (ranking, kind), tally in tallies.items():
        figures.setdefault(ranking, {})[kind] = _figures(tally)
    truths = next((int(tally.truths[0]) for tally in tallies.values()), 0)
    return {"images": images, "truths": truths, "figures": figures}


def pair_images(
    truths: Sequence[TruthImage],
    image_ids: Iterable[str],
    images: Iterable[ExportImage],
    lacking: list[str] | None = None,
) -> Iterator[tuple[TruthImage, ExportImage | None]]:
    """Each labelled image with the corpus's image of the same file name, None where the corpus does not hold it.

    `image_ids` are those of all `images`; `lacking` gets the file names of those it does not hold. Raises InputError
    where no image is common to both, an image may be two (`pair_names`), or the sizes differ.
    """
    left = {truth.id: truth for truth in truths}
    numbers = pair_names(image_ids, {truth.id: truth.file_name for truth in truths})
    if not numbers:
        raise InputError("the corpus holds no image of the ground truth; both must name the same files")
    for image in images:
        if image.image_id in numbers:
            truth = left.pop(numbers[image.image_id])
            check_size(image, truth.size_hw)
            yield truth, image
    for truth in left.values():
        if lacking is not None:
            lacking.append(truth.file_name)
        yield truth, None


def pair_corpus(
    truths: Sequence[TruthImage],
    image_ids: Iterable[str],
    images: Iterable[ExportImage],
    rankings: Sequence[RankBy],
    lacking: list[str] | None = None,
) -> Iterator[Pair]:
    """Each labelled image with its stored masks under each ranking, as `pair_images`.

    An image that the corpus does not hold has no proposals: all of its objects are missed.
    """
    for truth, image in pair_images(truths, image_ids, images, lacking):
        yield truth, {ranking: stored_objects(image, ranking) for ranking in rankings}


def pair_results(truths: Sequence[TruthImage], results: dict[int, list[dict[str, Any]]]) -> Iterator[Pair]:
    """Each labelled image with its rows of a results file, ranked by their score."""
    if not results.keys() & {truth.id for truth in truths}:
        raise InputError("--results holds no image_id of the ground truth; both must count images alike")
    for truth in truths:
        yield truth, {"score": result_objects(results.get(truth.id, []), truth.size_hw)}


def stored_objects(image: ExportImage | None, ranking: RankBy) -> Objects:
    """A corpus's masks of one image as objects, scored by `ranking`; none without an image."""
    masks = () if image is None else image.masks
    return mask_objects(masks, [mask.worth(ranking) for mask in masks], [1] * len(masks))


def only_category(objects: Objects, category: int) -> Objects:
    """The objects of one category."""
    kept = np.flatnonzero(objects.categories == category)
    return replace(
        objects,
        rles=None if objects.rles is None else [objects.rles[index] for index in kept],
        boxes_xywh=objects.boxes_xywh[kept],
        areas=objects.areas[kept],
        crowd=objects.crowd[kept],
        categories=objects.categories[kept],
        scores=objects.scores[kept],
    )


def precision_figures(precision: np.ndarray) -> dict[str, float | None]:
    """AP, AP50, AP75 and AP by size of average precisions float64 [sizes, IoU thresholds]."""
    levels = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
    figures = {name: _number(precision[0, level].mean()) for name, level in levels.items()}
    return figures | {f"AP_{size}": _number(precision[row].mean()) for row, size in enumerate(SIZES) if row}


def _figures(tally: Tally) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for count in (budget for budget in BUDGETS if budget <= tally.max_det):
        by_size = tally.recall(count).mean(1)
        figures[f"AR@{count}"] = _number(by_size[0])
        figures |= {f"AR@{count}_{size}": _number(by_size[row]) for row, size in enumerate(SIZES) if row}
    counts = np.unique(np.geomspace(1, tally.max_det, 60).round().astype(np.int64))
    recalls = np.array([tally.recall(int(count))[0].mean() for count in counts])
    if len(counts) > 1:
        figures["AUC"] = _number(area_under_recall(recalls, counts))
    figures |= precision_figures(tally.precision())
    levels = tally.recall(tally.max_det)[0]
    figures["recall_by_iou"] = {f"{t:.2f}": _number(r) for t, r in zip(IOU_THRESHOLDS, levels, strict=True)}
    figures["curve"] = {"proposals": counts.tolist(), "AR": [_number(value) for value in recalls]}
    return figures


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
