"""What is left of the best masks: convincing ones, without near-duplicates, a few an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.errors import InputError
from fastsam_batch.search.best import Hit, MaskKey, Query, first_per_image
from fastsam_batch.search.distinct import check_max_iou, distinct_hits
from fastsam_batch.search.engine import Engine

Rows = dict[MaskKey, dict[str, Any]]

STORED = ("image_id", "mask_index", "bbox", "area", "score", "stability", "rle")
# How many times more hits are looked at, at first, where some will be left out.
_SPARE = 4
# Among so many of the best by cosine convincing ones are looked for, besides those that are left out.
_CANDIDATES = 1000


@dataclass(frozen=True)
class Thin:
    """How the best masks of a query are thinned out; the options are those of `find_masks`.

    Raises InputError for one out of its range.
    """

    top_k: int
    per_image: int | None = None
    distinct: float | None = None
    min_calibrated: float | None = None

    def __post_init__(self) -> None:
        if self.per_image is not None and self.per_image < 1:
            raise InputError(f"--per-image {self.per_image}: ask for at least 1 mask an image")
        if self.distinct is not None:
            check_max_iou(self.distinct)
        if self.min_calibrated is not None and not 0 <= self.min_calibrated <= 1:
            raise InputError(f"--min-calibrated {self.min_calibrated:g}: a calibrated score is from 0 to 1")

    def search(self, engine: Engine, queries: Sequence[Query], where: Where) -> tuple[list[list[Hit]], Rows]:
        """The hits of each query, best first, and the rows of their masks."""
        corpus = engine.corpus
        rows: Rows = {}
        kept: dict[int, list[Hit]] = {}
        looked_at = self._first_look()
        # What is left out depends on better masks only: what is left of the best n is the beginning of what
        # would be left of all. Where it is too short, more are looked at.
        while len(kept) < len(queries):
            waiting = [number for number in range(len(queries)) if number not in kept]
            # The engine itself can keep a few an image, but not once other masks are to be left out before.
            cap = self.per_image if looked_at == self.top_k else None
            found = engine.search([replace(queries[n], per_image=cap) for n in waiting], looked_at, where)
            for number, hits in zip(waiting, found, strict=True):
                left, whole = self._left(corpus, hits, rows)
                if whole or len(left) >= self.top_k or len(hits) < looked_at:
                    kept[number] = left[: self.top_k]
            looked_at *= _SPARE
        result = [kept[number] for number in range(len(queries))]
        add_rows(corpus, [hit for hits in result for hit in hits], rows)
        return result, rows

    def _first_look(self) -> int:
        if self.top_k < 1 or (self.distinct is None and self.min_calibrated is None):
            return self.top_k
        return max(self.top_k * _SPARE, _CANDIDATES if self.min_calibrated is not None else 0)

    def _left(self, corpus: Corpus, hits: list[Hit], rows: Rows) -> tuple[list[Hit], bool]:
        """What is left of the best hits, and whether nothing could be left of any that come after them."""
        left = convincing = hits if self.min_calibrated is None else [hit for hit in hits if self._convinces(hit)]
        if self.distinct is not None:
            add_rows(corpus, left, rows)
            left = distinct_hits(left, rows, self.distinct)
        if self.per_image:
            left = first_per_image(left, self.per_image)
        if self.min_calibrated is None or not hits or hits[0].calibrated is None:
            return left, False
        # A lower cosine can have a higher calibrated score, so nothing but a number of candidates ends the search
        # for convincing masks. Those that were left out count for none: they are no more than the masks of fewer
        # than top_k images, so that this ends soon, too.
        limit = self._first_look()
        left_out = {*convincing} - {*left}
        candidates = [hit for hit in hits if hit not in left_out]
        return [hit for hit in candidates[:limit] if self._convinces(hit)], len(candidates) >= limit

    def _convinces(self, hit: Hit) -> bool:
        return self.min_calibrated is None or hit.calibrated is None or hit.calibrated >= self.min_calibrated


def add_rows(corpus: Corpus, hits: Sequence[Hit], rows: Rows) -> None:
    """Add the columns `STORED` of the hits' masks, and their image's `uri`, from their own files only."""
    found = [hit for hit in hits if (hit.image_id, hit.mask_index) not in rows]
    part = corpus.only({hit.unit_id for hit in found})
    of_hits = pc.field("image_id").isin(pa.array(sorted({hit.image_id for hit in found}), pa.string()))
    wanted = {(hit.image_id, hit.mask_index) for hit in found}
    uris = part.images(["image_id", "uri"], of_hits).to_pylist()
    uri_of = {row["image_id"]: row["uri"] for row in uris}
    for batch in part.mask_batches(STORED, of_hits):
        keys = zip(batch["image_id"].to_pylist(), batch["mask_index"].to_pylist(), strict=True)
        kept = batch.filter(pa.array([key in wanted for key in keys], pa.bool_()))
        for row in kept.to_pylist():
            rows[row["image_id"], row["mask_index"]] = row | {"uri": uri_of[row["image_id"]]}
