"""The page's questions as searches: words or a mask, with the filters of its form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.where import parse_where
from fastsam_batch.search.background import Background
from fastsam_batch.search.find import find_masks
from fastsam_batch.search.texts import EncodeTexts
from fastsam_batch.search.thresholds import least_calibrated


@dataclass(frozen=True)
class Filters:
    """What every search of the page takes: masks at most, in all and an image; the least cosine and the least
    calibrated score (None: as `least_calibrated`); what they must look less like; the IoU from which masks are
    near-duplicates; areas in pixels; and a filter.
    """

    top_k: int = 60
    per_image: int | None = None
    min_score: float | None = None
    min_calibrated: float | None = None
    contrasts: tuple[str, ...] = ()
    distinct: float | None = None
    min_area: int | None = None
    max_area: int | None = None
    where: str = ""

    def options(self, corpus: Corpus) -> dict[str, Any]:
        """All of it as options of `find_masks`. Raises InputError for a wrong filter."""
        if self.where.strip():  # read alone: between parentheses another filter may come of it
            parse_where(self.where, corpus.filter_columns())
        terms = [f"({self.where})"] if self.where.strip() else []
        terms += [f"area >= {self.min_area}"] if self.min_area is not None else []
        terms += [f"area <= {self.max_area}"] if self.max_area is not None else []
        return {
            "top_k": self.top_k,
            "per_image": self.per_image,
            "min_score": self.min_score,
            "contrasts": self.contrasts,
            "distinct": self.distinct,
            "where": " and ".join(terms) or None,
        }


def find_text(
    corpus: Corpus, text: str, filters: Filters, encode: EncodeTexts, background: Background | None, **options: Any
) -> pa.Table:
    """The masks that look most like a text: `find.hits_schema`; `background` as in `find_masks`.

    Raises InputError as `find_masks`.
    """
    least = least_calibrated(filters.min_calibrated, filters.min_score)
    options |= {**filters.options(corpus), "min_calibrated": least, "background": background}
    return find_masks(corpus, [text], encode=encode, **options)


def find_like(
    corpus: Corpus, image_id: str, mask_index: int, filters: Filters, encode: EncodeTexts | None, **options: Any
) -> pa.Table:
    """The masks that look most like a stored one, itself left out: `find.hits_schema`; `encode` for contrasts.

    Raises InputError as `find_masks`.
    """
    return find_masks(corpus, like=[(image_id, mask_index)], encode=encode, **filters.options(corpus), **options)
