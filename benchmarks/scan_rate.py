"""The exact scan of a corpus on disk against one float32 matrix product and top-k over the same vectors in memory.

Writes a corpus of random unit vectors (float16 in Parquet, as segment_corpus does), then times both in turn:
`scan` reads, decodes and searches the files, the other side starts with the float32 matrix in memory. Files are
in the page cache for both. `ratio` is the scan's rate over the product's; the bar is 0.7.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from machine import short_name
from made_vectors import uniform, write_corpus

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.corpus.write import ROW_GROUP_ROWS
from fastsam_batch.search.best import plain_queries
from fastsam_batch.search.scan import scan


def product(matrix: np.ndarray, queries: np.ndarray, top_k: int) -> np.ndarray:
    """The other side: one product and the rows of the best, best first."""
    cosines = matrix @ queries.T
    best = np.argpartition(-cosines, top_k, axis=0)[:top_k]
    order = np.argsort(-np.take_along_axis(cosines, best, axis=0), axis=0, kind="stable")
    return np.take_along_axis(best, order, axis=0)


def one_side(options: argparse.Namespace) -> None:
    """Run in a process of its own, so that its peak memory is its own: `--side scan` or `--side product`."""
    corpus = Corpus.open(options.corpus)
    matrix = None
    if options.side == "product":
        matrix = np.empty((options.rows, options.dim), np.float32)
        start = 0
        for batch in corpus.mask_batches(["embedding"]):
            matrix[start : start + len(batch)] = embedding_matrix(batch["embedding"])
            start += len(batch)
    else:
        import torch  # as after encoding a text, which is how a search comes by its vector

        assert torch
    found = {}
    for count in options.queries:
        queries = uniform(count, options.dim, 10**6 + count)
        began = time.perf_counter()
        if matrix is None:
            scan(corpus, plain_queries(queries), options.top_k)
        else:
            product(matrix, queries, options.top_k)
        found[str(count)] = round(time.perf_counter() - began, 3)
    print(
        json.dumps({"seconds": found, "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="folder for the corpus; needs about 1 GB a million rows of 512")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--unit-rows", type=int, default=ROW_GROUP_ROWS)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--top-k", type=int, default=100, help="1000 is what the command looks among by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("scan", "product"), help="one side only, for the other to call")
    options = parser.parse_args()
    write_corpus(
        Path(options.corpus),
        options.rows,
        options.dim,
        options.unit_rows,
        lambda rows, number: uniform(rows, options.dim, number),
        "uniform",
    )
    if options.side:
        one_side(options)
        return
    results: dict[str, list[dict]] = {"scan": [], "product": []}
    for _ in range(options.rounds):
        for side, of_side in results.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
            of_side.append(
                json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
            )
    best = {
        side: {count: min(run["seconds"][count] for run in runs) for count in runs[0]["seconds"]}
        for side, runs in results.items()
    }
    summary = {
        "rows": options.rows,
        "dim": options.dim,
        "top_k": options.top_k,
        "seconds": best,
        "ratio": {count: round(best["product"][count] / best["scan"][count], 3) for count in best["scan"]},
        "scan_peak_gib": max(run["peak_gib"] for run in results["scan"]),
        "machine": short_name(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
