"""Saved queries as labels: which class a mask's embedding gets, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.search.best import Query
from fastsam_batch.search.classes import ClassQuery
from fastsam_batch.search.texts import EncodeTexts, text_vectors

NO_LABEL = -1
# How far a float32 product can lie from the cosine of unit vectors, with room: 2**-24 for each of thousands of sums.
_ROUNDING = 2e-4


@dataclass(frozen=True)
class EncodedClasses:
    """Classes as vectors, in the order of the file."""

    names: tuple[str, ...]
    queries: tuple[Query, ...]


def assign_labels(
    embeddings: NDArray[np.float32], classes: EncodedClasses
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The class of each mask and its cosine: int64 [n], `NO_LABEL` for none, and float32 [n], NaN there.

    `embeddings` float32 [n, D] of unit length; a row of NaN, a mask without one, gets no label, nor does a damaged one
    of infinities. A mask may have a class where its cosine with the best of the class's texts reaches `min_score` and
    exceeds that with every contrast; of those it gets the one with the highest cosine, the first of equals.
    """
    labels = np.full(len(embeddings), NO_LABEL)
    scores = np.full(len(embeddings), -np.inf, np.float32)
    for number, (query, likely) in enumerate(zip(classes.queries, _likely(embeddings, classes), strict=True)):
        rows = np.flatnonzero(likely)
        cosines = query.similarities(embeddings[rows])
        with np.errstate(invalid="ignore"):  # a comparison with NaN is False
            better = (cosines > scores[rows]) & (cosines < np.inf)
            if query.min_score is not None:
                better &= cosines >= np.float32(query.min_score)
        labels[rows[better]], scores[rows[better]] = number, cosines[better]
    scores[labels == NO_LABEL] = np.nan
    return labels, scores


def _likely(embeddings: NDArray[np.float32], classes: EncodedClasses) -> list[NDArray[np.bool_]]:
    """For each class, of each mask whether it may be the one it gets: by float32 products, which cost little."""
    with np.errstate(invalid="ignore", over="ignore"):  # of damaged embeddings, for which no comparison holds
        off = _ROUNDING * np.linalg.norm(embeddings, axis=1)
        above, nearest = [], []
        best = np.full(len(embeddings), -np.inf, np.float32)  # the least that the class it gets can have
        for query in classes.queries:
            cosines = (embeddings @ query.any_of.T).max(axis=1)
            margin = np.full(len(embeddings), np.inf, np.float32)  # over what it must reach or exceed
            if len(query.none_of):
                margin = cosines - (embeddings @ query.none_of.T).max(axis=1)
            if query.min_score is not None:
                margin = np.minimum(margin, cosines - np.float32(query.min_score))
            best = np.where(margin > 2 * off, np.fmax(best, cosines - off), best)
            above.append(margin >= -2 * off)
            nearest.append(cosines + off)
        return [passes & (cosines >= best) for passes, cosines in zip(above, nearest, strict=True)]


def encode_classes(classes: Sequence[ClassQuery], encode: EncodeTexts) -> EncodedClasses:
    """The classes' texts as vectors; `encode` gives unit vectors float32 [n, D] of n sentences."""
    sentences = [text for each in classes for text in (*each.texts, *each.contrasts)]
    vectors = text_vectors(sentences, encode)
    queries, first = [], 0
    for each in classes:
        middle = first + len(each.texts)
        last = middle + len(each.contrasts)
        queries.append(Query(vectors[first:middle], vectors[middle:last], each.min_score))
        first = last
    return EncodedClasses(tuple(each.name for each in classes), tuple(queries))
