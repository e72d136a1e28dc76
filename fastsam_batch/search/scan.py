"""Exact search: every stored embedding against every query, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsam_batch.corpus.read import BATCH_ROWS, Corpus, Where
from fastsam_batch.errors import InputError
from fastsam_batch.search.best import Best, Hit, MaskKey, Query, query_of
from fastsam_batch.storage import redact

__all__ = ["Hit", "check_queries", "embedding_matrix", "scan"]


def scan(
    corpus: Corpus,
    queries: Sequence[Query] | NDArray[np.float32],
    top_k: int,
    min_score: float | None = None,
    where: Where = None,
    batch_rows: int = BATCH_ROWS,
) -> list[list[Hit]]:
    """For each query its `top_k` masks by cosine, best first; vectors float32 [n, D] are n plain queries.

    Exact and repeatable: candidates of a float32 product are scored anew in float64, so that the result
    depends neither on `batch_rows` nor on the linear algebra library; equal cosines go by image_id, then
    mask_index. Masks without an embedding, below `min_score` (of plain queries), or outside `where` are left
    out. Raises InputError for a corpus without embeddings, of another dimension, or a top_k below 1.
    """
    if isinstance(queries, np.ndarray):
        queries = [query_of(vector, min_score) for vector in queries]
    check_queries(corpus, queries, top_k)
    if not queries:
        return []
    best = [Best(query, top_k) for query in queries]
    vectors = np.concatenate([query.any_of for query in queries])
    ends = np.cumsum([len(query.any_of) for query in queries])
    for batch in corpus.mask_batches(["image_id", "mask_index", "unit_id", "embedding"], where, batch_rows):
        embeddings = embedding_matrix(batch["embedding"])
        with np.errstate(invalid="ignore"):  # rows of NaN: masks without an embedding
            cosines = embeddings @ vectors.T
        unit_id = batch["unit_id"][0].as_py()
        for each, mine in zip(best, np.split(cosines, ends[:-1], axis=1), strict=True):
            each.add_block(embeddings, mine.max(axis=1), partial(_keys, batch), unit_id)
    return [each.result() for each in best]


def check_queries(corpus: Corpus, queries: Sequence[Query], top_k: int) -> None:
    """Raise InputError unless these queries can be asked of the corpus."""
    name = redact(corpus.uri)
    if top_k < 1:
        raise InputError(f"top-k is {top_k}; ask for at least 1 mask")
    if corpus.embedding_dim is None:
        raise InputError(f"the corpus {name} has no embeddings to search; segment again with an embedder")
    for query in queries:
        if query.any_of.shape[1] != corpus.embedding_dim:
            raise InputError(
                f"the text has {query.any_of.shape[1]} dimensions, the corpus {name} has {corpus.embedding_dim}; "
                "search with the embedder that corpus.json names"
            )


def embedding_matrix(embedding: pa.FixedSizeListArray) -> NDArray[np.float32]:
    """float32 [n, D] of n stored embeddings; a row of NaN where one is null."""
    size = embedding.type.list_size
    stored = embedding.values.slice(embedding.offset * size, len(embedding) * size)
    matrix: NDArray[np.float32] = stored.to_numpy(zero_copy_only=False).astype(np.float32)
    matrix = matrix.reshape(len(embedding), size)
    if embedding.null_count:
        matrix[embedding.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return matrix


def _keys(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> list[MaskKey]:
    kept = batch.select(["image_id", "mask_index"]).take(pa.array(rows))
    return list(zip(*(column.to_pylist() for column in kept.columns), strict=True))
