"""Queries from what a person names: texts, contrasts, and masks as examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.search.background import Background
from fastsam_batch.search.best import MaskKey, Query
from fastsam_batch.search.likeness import mask_vectors
from fastsam_batch.search.texts import TEMPLATES, EncodeTexts, alternatives, text_vectors


def text_queries(
    texts: Sequence[str],
    encode: EncodeTexts,
    *,
    contrasts: Sequence[str] = (),
    min_score: float | None = None,
    background: Background | None = None,
    templates: Sequence[str] = TEMPLATES,
) -> list[Query]:
    """A query a text, of its `alternatives`; with a `background` its hits are calibrated.

    Alternatives of a contrast are a contrast each. Raises InputError for an empty text, alternative or contrast.
    """
    groups = [alternatives(text) for text in texts]
    unlike = _each(contrasts)
    every = [*(each for group in groups for each in group), *unlike]
    vectors = text_vectors(every, encode, templates)
    split = len(every) - len(unlike)
    parts = np.split(vectors[:split], np.cumsum([len(group) for group in groups])[:-1])
    return [
        Query(
            any_of,
            vectors[split:],
            min_score,
            background=None if background is None else background.without(group, any_of),
        )
        for group, any_of in zip(groups, parts, strict=True)
    ]


def mask_queries(
    corpus: Corpus,
    masks: Sequence[MaskKey],
    encode: EncodeTexts | None = None,
    *,
    contrasts: Sequence[str] = (),
    min_score: float | None = None,
    templates: Sequence[str] = TEMPLATES,
) -> list[Query]:
    """A query a stored mask, which does not answer itself. Its cosines are those of masks with masks.

    `encode` is needed for contrasts only. Raises InputError for an unknown mask or one without an embedding.
    """
    vectors = mask_vectors(corpus, masks)
    none_of = np.zeros((0, vectors.shape[1]), np.float32)
    if contrasts and encode is not None:
        none_of = text_vectors(_each(contrasts), encode, templates)
    return [
        Query(vector[None], none_of, min_score, None, frozenset([mask]))
        for mask, vector in zip(masks, vectors, strict=True)
    ]


def _each(contrasts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(each for text in contrasts for each in alternatives(text)))
