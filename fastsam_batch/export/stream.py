"""A corpus as a stream of images with their labelled masks, one unit in memory at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.export.budget import Budget, within
from fastsam_batch.export.images import ExportImage, ExportMask

# Stored embeddings of n masks in, for each its category (-1 for none, int64 [n]) and cosine (float32 [n]) out.
Labeller = Callable[[pa.FixedSizeListArray], tuple[NDArray[np.int64], NDArray[np.float32]]]

_IMAGE_COLUMNS = ["image_id", "uri", "unit_id", "width", "height", "sha256", "status"]
_MASK_COLUMNS = ["image_id", "mask_index", "bbox", "area", "score", "stability", "rle", "unit_id"]


@dataclass
class Counts:
    """What went through the stream so far. `left_out` counts masks by rule, `labels` by category."""

    images: int = 0
    failed_images: int = 0
    masks: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)


def labelled_images(
    corpus: Corpus, budget: Budget, labeller: Labeller | None, where: Where, counts: Counts
) -> Iterator[ExportImage]:
    """Every image that was segmented, in the corpus's order, with the masks that have a label and are in budget.

    Without a `labeller` every mask has label 0. `where` filters masks (see `parse_where`), before all else.
    `counts` follows what has been given out. Raises InputError as `Corpus.masks`.
    """
    columns = _MASK_COLUMNS if labeller is None else [*_MASK_COLUMNS, "embedding"]
    with corpus.photographs.opened() as photographs:
        for image, masks in _images_with_masks(corpus, columns, where, counts):
            found = [] if masks is None else _labelled(masks, labeller, counts)
            kept, left_out = within(budget, found)
            counts.left_out.update(left_out)
            counts.labels.update(mask.label for mask in kept)
            counts.images += 1
            counts.masks += len(kept)
            named = {name: image[name] for name in ("image_id", "uri", "width", "height", "sha256")}
            yield ExportImage(**named, masks=tuple(kept), photographs=photographs)


def _images_with_masks(
    corpus: Corpus, columns: list[str], where: Where, counts: Counts
) -> Iterator[tuple[dict[str, Any], pa.Table | None]]:
    """Rows of images that were segmented, each with the rows of its masks, None where there are none."""
    of_masks = _by_unit(corpus.mask_batches(columns, where))
    unit_of_masks, masks = next(of_masks, ("", None))
    for unit, images in _by_unit(corpus.image_batches(_IMAGE_COLUMNS)):
        rows: dict[str, list[int]] = {}
        if masks is not None and unit_of_masks == unit:
            for row, image_id in enumerate(masks["image_id"].to_pylist()):
                rows.setdefault(image_id, []).append(row)
        for image in images.to_pylist():
            if image["status"] != "ok":
                counts.failed_images += 1
                continue
            own = rows.get(image["image_id"])
            yield image, _rows(masks, own) if own and masks is not None else None
        if unit_of_masks == unit:
            unit_of_masks, masks = next(of_masks, ("", None))


def _rows(table: pa.Table, rows: list[int]) -> pa.Table:
    """Rows of a table, ascending. `take` alone would first join all chunks of a unit, for each image anew."""
    first = rows[0]
    return table.slice(first, rows[-1] + 1 - first).take(pa.array([row - first for row in rows]))


def segmented_ids(corpus: Corpus) -> Iterator[str]:
    """The image_id of every image that `labelled_images` gives, in its order."""
    for batch in corpus.image_batches(["image_id", "status"]):
        for image in batch.to_pylist():
            if image["status"] == "ok":
                yield image["image_id"]


def _by_unit(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, pa.Table]]:
    """Tables of one unit each; a batch never crosses files, and so not units."""
    for unit, of_unit in groupby(batches, key=lambda batch: batch["unit_id"][0].as_py()):
        yield unit, pa.Table.from_batches(of_unit)


def _labelled(rows: pa.Table, labeller: Labeller | None, counts: Counts) -> list[ExportMask]:
    labels, similarities = np.zeros(len(rows), np.int64), np.full(len(rows), np.nan, np.float32)
    if labeller is not None:
        labels, similarities = labeller(rows["embedding"].combine_chunks())
        counts.left_out["no_label"] += int((labels < 0).sum())
        kept = np.flatnonzero(labels >= 0)
        rows, labels, similarities = rows.take(pa.array(kept)), labels[kept], similarities[kept]
    stored = rows.select(_MASK_COLUMNS).to_pylist()
    return [
        ExportMask.of(row, label, None if math.isnan(similarity) else similarity)
        for row, label, similarity in zip(stored, labels.tolist(), similarities.tolist(), strict=True)
    ]
