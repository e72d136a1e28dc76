"""The best masks of one query, while the embeddings of a corpus pass by in blocks of any size and order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.corpus.products import ROUNDING
from fastsam_batch.search.background import Background

MaskKey = tuple[str, int]


class Hit(NamedTuple):
    """One mask that answers a query: its raw cosine, where it lies, and its calibrated score if asked for."""

    similarity: float
    image_id: str
    mask_index: int
    unit_id: str
    calibrated: float | None = None


@dataclass(frozen=True, eq=False)
class Query:
    """What to look for. A mask's similarity is its highest cosine with `any_of`, float32 [a, D] of unit length.

    A mask answers where that reaches `min_score` and exceeds its cosine with every one of `none_of`,
    float32 [c, D]. At most `per_image` masks of an image answer, the best ones. `without` names masks that
    do not, such as the one that serves as the example. With a `background` hits are calibrated.
    """

    any_of: NDArray[np.float32]
    none_of: NDArray[np.float32]
    min_score: float | None = None
    per_image: int | None = None
    without: frozenset[MaskKey] = frozenset()
    background: Background | None = None

    def similarities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Exact similarities float32 [n] of masks [n, D]: NaN where one of `none_of` is as near, or the row is NaN."""
        found: NDArray[np.float32] = exact_cosines(embeddings, self.any_of).max(axis=1)
        if len(self.none_of):
            with np.errstate(invalid="ignore"):  # a comparison with NaN is False
                found[~(found > exact_cosines(embeddings, self.none_of).max(axis=1))] = np.nan
        return found


def plain_queries(vectors: NDArray[np.float32], min_score: float | None = None) -> list[Query]:
    """A query by each of n vectors, float32 [n, D] of unit length."""
    return [Query(vector[None], np.zeros((0, len(vector)), np.float32), min_score) for vector in vectors]


def exact_cosines(embeddings: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines float32 [n, a] of rows [n, D] with unit vectors [a, D], which depend on nothing but the two.

    A float32 product's last bits depend on the library and on the rows beside; a float64 sum rounded to
    float32 does not.
    """
    wide = embeddings.astype(np.float64)
    with np.errstate(invalid="ignore"):  # an embedding of infinities
        columns = [(wide * vector.astype(np.float64)).sum(axis=1) for vector in vectors]
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(embeddings), 0), np.float32)


def hits_of(
    query: Query,
    embeddings: NDArray[np.float32],
    similarities: NDArray[np.float32],
    keys: Sequence[MaskKey],
    unit_id: str,
) -> list[Hit]:
    """Hits of masks of a unit with their exact similarities float32 [n]; those that the query leaves out are not."""
    calibrated: Sequence[float | None] = [None] * len(keys)
    if query.background is not None:
        calibrated = query.background.calibrate(similarities, embeddings).tolist()
    named = zip(similarities.tolist(), keys, calibrated, strict=True)
    return [Hit(score, *key, unit_id, sure) for score, key, sure in named if key not in query.without]


@dataclass
class Best:
    """The best `top_k` hits of a query so far; threads may add at once."""

    query: Query
    top_k: int
    hits: list[Hit] = field(default_factory=list)
    floor: float = -np.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.query.min_score is not None:
            self.floor = float(np.float32(self.query.min_score))

    @property
    def least(self) -> float:
        """The least cosine, within ROUNDING, of a mask that can be among the best."""
        return self.floor - ROUNDING

    def add_block(
        self,
        embeddings: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        similarities: NDArray[np.float32],
        keys: Callable[[NDArray[np.int64]], Sequence[MaskKey]],
        unit_id: str,
    ) -> None:
        """Take from a block what can be among the best.

        `similarities` float32 [n] are within ROUNDING of the true ones, NaN where a mask has no embedding;
        `embeddings` gives rows of them, float32 [rows, D], and `keys` names rows, where some qualify.
        """
        query = self.query
        # Never a NaN, nor an infinite one, which is of no unit vectors and would take the place of a mask.
        rows = np.flatnonzero((similarities >= self.least) & (similarities < np.inf))
        enough = self.top_k + len(query.without)
        if len(rows) > enough and not (len(query.none_of) or query.per_image):
            kth_best = np.partition(similarities[rows], -enough)[-enough]
            rows = rows[similarities[rows] >= kth_best - 2 * ROUNDING]  # either may be off by one
        if not len(rows):
            return
        near = embeddings(rows)
        exact = query.similarities(near)
        keep = np.isfinite(exact) & (exact >= self.floor)
        if keep.any():
            self.add(hits_of(query, near[keep], exact[keep], keys(rows[keep]), unit_id))

    def add(self, hits: list[Hit]) -> None:
        """Take hits whose similarities are exact."""
        with self._lock:
            self.hits += hits
            # Sorting only when a quarter is new keeps a large top_k linear in the corpus.
            if len(self.hits) >= self.top_k + self.top_k // 4 + 16:
                self._cut()

    def result(self) -> list[Hit]:
        """The hits, best first; equal cosines by image_id, then mask_index."""
        with self._lock:
            return self._cut()

    def _cut(self) -> list[Hit]:
        self.hits.sort(key=lambda hit: (-hit.similarity, hit.image_id, hit.mask_index))
        if self.query.per_image:
            self.hits = first_per_image(self.hits, self.query.per_image)
        del self.hits[self.top_k :]
        if len(self.hits) == self.top_k:
            self.floor = max(self.floor, self.hits[-1].similarity)
        return self.hits


def first_per_image(hits: Sequence[Hit], per_image: int) -> list[Hit]:
    """The hits that come among the first so many of their image, in the order given."""
    seen: dict[str, int] = {}
    kept = []
    for hit in hits:
        seen[hit.image_id] = seen.get(hit.image_id, 0) + 1
        if seen[hit.image_id] <= per_image:
            kept.append(hit)
    return kept
