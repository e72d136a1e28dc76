"""The page's questions as searches: words or a mask, with the filters of its form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fastsam_batch.corpus.image import CorpusImage
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.errors import InputError
from fastsam_batch.search.find import _with_masks, find_masks
from fastsam_batch.search.query import EncodeTexts
from fastsam_batch.search.scan import scan


@dataclass(frozen=True)
class Filters:
    """What every search of the page takes: how many masks, the least cosine, areas in pixels, and a filter."""

    top_k: int = 60
    min_score: float | None = None
    min_area: int | None = None
    max_area: int | None = None
    where: str = ""

    def expression(self) -> str | None:
        """All of it as one filter for `parse_where`; None for none."""
        terms = [f"({self.where})"] if self.where.strip() else []
        terms += [f"area >= {self.min_area}"] if self.min_area is not None else []
        terms += [f"area <= {self.max_area}"] if self.max_area is not None else []
        return " and ".join(terms) or None


def find_text(corpus: Corpus, text: str, filters: Filters, encode: EncodeTexts) -> pa.Table:
    """The masks that look most like a text: `find.hits_schema`. Raises InputError as `find_masks`."""
    return find_masks(
        corpus, [text], top_k=filters.top_k, min_score=filters.min_score, where=filters.expression(), encode=encode
    )


def find_like(corpus: Corpus, image: CorpusImage, mask_index: int, filters: Filters) -> pa.Table:
    """The masks that look most like a stored one, itself left out: `find.hits_schema`.

    Raises InputError where there is no such mask, or it was too small to embed.
    """
    place = image.masks["mask_index"].to_pylist().index(mask_index)
    stored = image.masks["embedding"][place].as_py()
    if stored is None:
        raise InputError(f"mask {mask_index} of {image.image_id!r} was too small to embed; choose a larger one")
    vector = np.asarray(stored, np.float32)
    vector /= np.linalg.norm(vector)
    (hits,) = scan(corpus, vector[None], filters.top_k + 1, filters.min_score, filters.expression())
    others = [hit for hit in hits if (hit.image_id, hit.mask_index) != (image.image_id, mask_index)]
    return _with_masks(corpus, [""], [others[: filters.top_k]])
