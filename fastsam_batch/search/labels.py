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
    for number, query in enumerate(classes.queries):
        cosines = query.similarities(embeddings)
        with np.errstate(invalid="ignore"):  # a comparison with NaN is False
            better = (cosines > scores) & (cosines < np.inf)
            if query.min_score is not None:
                better &= cosines >= np.float32(query.min_score)
        labels[better], scores[better] = number, cosines[better]
    scores[labels == NO_LABEL] = np.nan
    return labels, scores


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
