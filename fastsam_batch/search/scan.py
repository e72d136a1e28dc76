"""Exact search: every stored embedding against every query vector, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsam_batch.corpus.read import BATCH_ROWS, Corpus, Where
from fastsam_batch.errors import InputError
from fastsam_batch.storage import redact

# How far a float32 product of unit vectors can lie from the true one, with room to spare.
_ROUNDING = 1e-4


class Hit(NamedTuple):
    """One mask that answers a query: its raw cosine, and where it lies."""

    similarity: float
    image_id: str
    mask_index: int
    unit_id: str


@dataclass
class _Best:
    """The best hits of one query so far; `floor` is what a newcomer must reach."""

    top_k: int
    floor: float
    hits: list[Hit] = field(default_factory=list)

    def add(self, hits: list[Hit]) -> None:
        self.hits += hits
        # Sorting only when the list has doubled keeps a large top_k linear in the corpus.
        if len(self.hits) >= 2 * self.top_k + 64:
            self.cut()

    def cut(self) -> list[Hit]:
        self.hits.sort(key=lambda hit: (-hit.similarity, hit.image_id, hit.mask_index))
        del self.hits[self.top_k :]
        if len(self.hits) == self.top_k:
            self.floor = max(self.floor, self.hits[-1].similarity)
        return self.hits


def scan(
    corpus: Corpus,
    vectors: NDArray[np.float32],
    top_k: int,
    min_score: float | None = None,
    where: Where = None,
    batch_rows: int = BATCH_ROWS,
) -> list[list[Hit]]:
    """For each query vector float32 [n, D] of unit length, its `top_k` masks by cosine, best first.

    Exact and repeatable: candidates of a float32 product are scored anew in float64, so that the result
    depends neither on `batch_rows` nor on the linear algebra library; equal cosines go by image_id, then
    mask_index. Masks without an embedding, below `min_score`, or outside `where` are left out.
    Raises InputError for a corpus without embeddings, of another dimension, or a top_k below 1.
    """
    name = redact(corpus.uri)
    if top_k < 1:
        raise InputError(f"top-k is {top_k}; ask for at least 1 mask")
    if corpus.embedding_dim is None:
        raise InputError(f"the corpus {name} has no embeddings to search; segment again with an embedder")
    if vectors.shape[1] != corpus.embedding_dim:
        raise InputError(
            f"the text has {vectors.shape[1]} dimensions, the corpus {name} has {corpus.embedding_dim}; "
            "search with the embedder that corpus.json names"
        )
    best = [_Best(top_k, -np.inf if min_score is None else min_score) for _ in vectors]
    columns = ["image_id", "mask_index", "unit_id", "embedding"]
    for batch in corpus.mask_batches(columns, where, batch_rows):
        embeddings = embedding_matrix(batch["embedding"])
        with np.errstate(invalid="ignore"):  # rows of NaN: masks without an embedding
            similarities = embeddings @ vectors.T
        for query, vector, row_scores in zip(best, vectors, similarities.T, strict=True):
            query.add(_candidates(batch, embeddings, vector, row_scores, query))
    return [query.cut() for query in best]


def embedding_matrix(embedding: pa.FixedSizeListArray) -> NDArray[np.float32]:
    """float32 [n, D] of n stored embeddings; a row of NaN where one is null."""
    size = embedding.type.list_size
    stored = embedding.values.slice(embedding.offset * size, len(embedding) * size)
    matrix: NDArray[np.float32] = stored.to_numpy(zero_copy_only=False).astype(np.float32)
    matrix = matrix.reshape(len(embedding), size)
    if embedding.null_count:
        matrix[embedding.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return matrix


def _candidates(
    batch: pa.RecordBatch,
    embeddings: NDArray[np.float32],
    vector: NDArray[np.float32],
    similarities: NDArray[np.float32],
    query: _Best,
) -> list[Hit]:
    """Hits of one batch that can be among the query's best, with their exact similarities."""
    rows = np.flatnonzero(similarities >= query.floor - _ROUNDING)  # never a NaN
    if len(rows) > query.top_k:
        kth_best = np.partition(similarities[rows], -query.top_k)[-query.top_k]
        rows = rows[similarities[rows] >= kth_best - _ROUNDING]
    exact = (embeddings[rows].astype(np.float64) * vector.astype(np.float64)).sum(axis=1).astype(np.float32)
    keep = exact >= query.floor
    rows, exact = rows[keep], exact[keep]
    kept = batch.select(["image_id", "mask_index", "unit_id"]).take(pa.array(rows))
    return [Hit(*row) for row in zip(exact.tolist(), *(column.to_pylist() for column in kept.columns), strict=True)]
