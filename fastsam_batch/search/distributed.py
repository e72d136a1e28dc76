"""The exact scan as a Ray Data job: units go to the cluster, their best masks come back."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import pyarrow as pa

from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.ray_cluster import joined_ray
from fastsam_batch.search.best import Best, Hit, Query
from fastsam_batch.search.scan import check_queries, scan
from fastsam_batch.storage import absolute

# Units a task at most: large enough to pay for a task, small enough to spread over a cluster.
UNITS_A_TASK = 16


def scan_distributed(
    corpus: Corpus,
    queries: Sequence[Query],
    top_k: int,
    where: Where = None,
    units_a_task: int = UNITS_A_TASK,
) -> list[list[Hit]]:
    """As `scan`, with the same result, its units spread over the Ray cluster that RAY_ADDRESS names.

    Without one a Ray of its own runs on this machine. Each task returns the best `top_k` of its units, so what
    crosses the network does not grow with the corpus's masks. Raises as `scan`.
    """
    check_queries(corpus, queries, top_k)
    units = list(corpus.receipts())
    if not queries or not units:
        return [[] for _ in queries]
    task = pickle.dumps((absolute(corpus.uri), corpus.info, list(queries), top_k, where))
    parts = [units[start : start + units_a_task] for start in range(0, len(units), units_a_task)]
    best = [Best(query, top_k) for query in queries]
    with joined_ray(verbose=False):
        import ray.data

        data = ray.data.from_items([{"units": part} for part in parts], override_num_blocks=len(parts))
        data.context.enable_progress_bars = False
        data.context.print_on_execution_start = False
        found = data.map_batches(_scan_part, fn_args=[task], batch_size=1, batch_format="pyarrow", num_cpus=1)
        for batch in found.iter_batches(batch_size=None, batch_format="pyarrow"):
            for answer in batch.to_pylist():
                if answer["problem"]:
                    raise pickle.loads(answer["problem"])
                for each, hits in zip(best, pickle.loads(answer["hits"]), strict=True):
                    each.add(hits)
    return [each.result() for each in best]


def _scan_part(batch: pa.Table, task: bytes) -> pa.Table:
    """The best hits of each query among some units, as one row, or what is wrong with their files."""
    uri, info, queries, top_k, where = pickle.loads(task)
    answers: list[tuple[bytes, bytes | None]] = []
    for units in batch["units"].to_pylist():
        try:
            part = Corpus(uri, info).only(units)
            answers.append((pickle.dumps(scan(part, queries, top_k, where)), None))
        except (InputError, OutageError) as error:  # each is a sentence, which Ray would wrap in a traceback
            answers.append((b"", pickle.dumps(error)))
    hits, problems = zip(*answers, strict=True)
    return pa.table({"hits": pa.array(hits, pa.large_binary()), "problem": pa.array(problems, pa.binary())})
