"""The exact scan as a Ray Data job: units go to the cluster, their best masks come back."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence

import pyarrow as pa

from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.search.best import Best, Hit, Query
from fastsam_batch.search.scan import check_queries, scan

# Units a task: large enough to pay for a task, small enough to spread over a cluster.
_UNITS = 16


def scan_distributed(corpus: Corpus, queries: Sequence[Query], top_k: int, where: Where = None) -> list[list[Hit]]:
    """As `scan`, with the same result, its units spread over the Ray cluster that RAY_ADDRESS names.

    Without one a Ray of its own runs on this machine. Each task returns the best `top_k` of its units, so what
    crosses the network does not grow with the corpus's masks. Raises InputError as `scan`.
    """
    check_queries(corpus, queries, top_k)
    units = sorted(corpus.receipts())
    if not queries or not units:
        return [[] for _ in queries]
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    own = not ray.is_initialized()
    if own:
        ray.init(os.environ.get("RAY_ADDRESS", "local"), logging_level="ERROR", log_to_driver=False)
    try:
        task = pickle.dumps((corpus.uri, corpus.info, list(queries), top_k, where))
        parts = [units[start : start + _UNITS] for start in range(0, len(units), _UNITS)]
        data = ray.data.from_items([{"units": part} for part in parts], override_num_blocks=len(parts))
        data.context.enable_progress_bars = False
        data.context.print_on_execution_start = False
        found = data.map_batches(_scan_part, fn_args=[task], batch_size=1, batch_format="pyarrow", num_cpus=1)
        best = [Best(query, top_k) for query in queries]
        for batch in found.iter_batches(batch_size=None, batch_format="pyarrow"):
            for value in batch["hits"]:
                for each, hits in zip(best, pickle.loads(value.as_buffer()), strict=True):
                    each.add(hits)
        return [each.result() for each in best]
    finally:
        if own:
            ray.shutdown()


def _scan_part(batch: pa.Table, task: bytes) -> pa.Table:
    """The best hits of each query among some units, as one row."""
    uri, info, queries, top_k, where = pickle.loads(task)
    corpus = Corpus(uri, info)
    rows = [pickle.dumps(scan(corpus.only(units), queries, top_k, where=where)) for units in batch["units"].to_pylist()]
    return pa.table({"hits": pa.array(rows, pa.large_binary())})
