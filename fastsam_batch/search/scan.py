"""Exact search: every stored embedding against every query, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from fastsam_batch.corpus.filters import MaskFilter
from fastsam_batch.corpus.products import Products
from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.errors import InputError
from fastsam_batch.search.best import Best, Hit, MaskKey, Query
from fastsam_batch.storage import redact
from fastsam_batch.threads import available_cores

# A scan takes all cores, and the number of BLAS's threads is the process's: of two that overlap, the later one would
# give back what the earlier one had set.
_ONE_AT_A_TIME = threading.Lock()


class AbandonedError(Exception):
    """Nobody waits for what a search finds any more."""


def scan(
    corpus: Corpus,
    queries: Sequence[Query],
    top_k: int,
    where: Where = None,
    left: Callable[[], bool] = lambda: False,
) -> list[list[Hit]]:
    """For each query its `top_k` masks by cosine, best first.

    Exact and repeatable: candidates of a float32 product are scored anew in float64, so that the result does not
    depend on the linear algebra library; equal cosines go by image_id, then mask_index. Masks without an embedding or
    outside `where` are left out; a filter costs the columns that it names. Raises InputError for a corpus without
    embeddings, of another dimension, a wrong filter, or a top_k below 1, AbandonedError once `left` says that nobody
    waits for the result any more.
    """
    check_queries(corpus, queries, top_k)
    if not queries:
        return []
    best = [Best(query, top_k) for query in queries]
    _scan_files(corpus, None if where is None else corpus.mask_filter(where), best, left)
    return [each.result() for each in best]


def _scan_files(corpus: Corpus, where: MaskFilter | None, best: Sequence[Best], left: Callable[[], bool]) -> None:
    """Give the best the masks of all units: files side by side, one core each."""
    vectors = _stacked(best)
    of_thread = threading.local()

    def scan_unit(unit_id: str) -> None:
        if left():  # those that waited for their turn, too
            raise AbandonedError
        if not hasattr(of_thread, "products"):
            of_thread.products = Products(vectors)
        for block in corpus.vector_blocks(unit_id, of_thread.products, where):
            if left():
                raise AbandonedError
            _add(best, block.cosines, block.embeddings, block.keys, unit_id)

    # One thread a core, each with a product of its own, keeps all of them at work while others read. OpenMP counts
    # threads by the thread that asks.
    limit = partial(ThreadpoolController().limit, limits=1)
    alone = partial(limit, user_api="openmp")
    with _ONE_AT_A_TIME, limit(user_api="blas"), ThreadPoolExecutor(available_cores(), initializer=alone) as pool:
        for _ in pool.map(scan_unit, corpus.receipts()):
            pass


def _stacked(best: Sequence[Best]) -> NDArray[np.float32]:
    return np.concatenate([each.query.any_of for each in best])


def _add(
    best: Sequence[Best],
    cosines: NDArray[np.float32],
    embeddings: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    keys: Callable[[NDArray[np.int64]], list[MaskKey]],
    unit_id: str,
) -> None:
    """Give each of the best its part of float32 cosines [vectors, n] with n masks of a unit."""
    highest = cosines.max(axis=1)  # of most vectors too low for any mask of so few to be among the best
    start = 0
    for each in best:
        end = start + len(each.query.any_of)
        if not (highest[start:end] < each.least).all():  # or NaN
            mine = cosines[start] if end == start + 1 else cosines[start:end].max(axis=0)
            each.add_block(embeddings, mine, keys, unit_id)
        start = end


def check_queries(corpus: Corpus, queries: Sequence[Query], top_k: int) -> None:
    """Raise InputError unless these queries can be asked of the corpus."""
    if top_k < 1:
        raise InputError(f"top-k is {top_k}; ask for at least 1 mask")
    dim = check_embedded(corpus)
    for query in queries:
        if query.any_of.shape[1] != dim:
            raise InputError(
                f"the text has {query.any_of.shape[1]} dimensions, the corpus {redact(corpus.uri)} has {dim}; "
                "search with the embedder that corpus.json names"
            )


def check_embedded(corpus: Corpus) -> int:
    """D, the length of the corpus's embeddings. Raises InputError where its masks were not embedded."""
    dim = corpus.embedding_dim
    if dim is None or corpus.info["models"]["embedder"] is None:
        raise InputError(
            f"the corpus {redact(corpus.uri)} has no embeddings to search; give its masks some by embed_corpus "
            "(fastsam-batch embed), which makes another corpus of them"
        )
    return dim
