"""The index of a large corpus: milliseconds a search, and recall@100 against the exact scan, with filters.

Vectors are clustered as embeddings of masks are: a common direction that all share, Zipf-sized clusters around
centres whose spectrum decays (variance of dimension d falls as 1/d), and scatter within a cluster of the same
spectrum, float16, unit length. Queries lie where texts do: near a random centre, but off in a direction of
their own that no mask has (the gap between the modalities), with scatter. Filters keep 10 %, 1 % and 0.1 % of
the masks, by a column that has nothing to do with the vectors. The index is built as index_corpus builds it, by
other queries than those that are measured, and searched as `search` does: a search is timed from the vector to
the list of hits with their exact cosines.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import short_name
from made_vectors import TRUTH_FOLDER, unit, write_corpus

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.write import ROW_GROUP_ROWS
from fastsam_batch.search.best import Hit, plain_queries
from fastsam_batch.search.build import RECALL_AT, build_index
from fastsam_batch.search.index import Index
from fastsam_batch.search.scan import scan
from fastsam_batch.storage import write_result

KEPT = {"all": None, "10 %": "score < 0.1", "1 %": "score < 0.01", "0.1 %": "score < 0.001"}
_UNTIMED = 5


def generator(
    dim: int, clusters: int, seed: int
) -> tuple[Callable[[int, int], np.ndarray], Callable[[int, int], np.ndarray]]:
    """Functions that make masks and queries, each of (rows, number of the block), float32 of unit length."""
    random = np.random.default_rng(seed)
    spectrum = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    spectrum /= np.linalg.norm(spectrum)
    common, gap = (unit(random.standard_normal((1, dim), np.float32)) for _ in range(2))
    centres = random.standard_normal((clusters, dim), np.float32) * spectrum
    weights = np.arange(1, clusters + 1) ** -0.8

    def masks(rows: int, block: int) -> np.ndarray:
        random = np.random.default_rng([seed, block])
        which = random.choice(clusters, rows, p=weights / weights.sum())
        scatter = random.standard_normal((rows, dim), np.float32) * spectrum
        return unit(common + 0.8 * centres[which] + 0.6 * scatter)

    def queries(rows: int, block: int) -> np.ndarray:
        random = np.random.default_rng([seed, 10**9 + block])
        scatter = random.standard_normal((rows, dim), np.float32) * spectrum
        return unit(gap + 0.6 * centres[random.choice(clusters, rows)] + 0.35 * scatter)

    return masks, queries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="folder; a million rows of 512 need 3 GB")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=4000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--probes", type=int, nargs="+", help="partitions to look into; default: what the build found")
    parser.add_argument("--refine", type=int, help="rows ranked again, in hundreds; default: as built")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    folder = Path(options.corpus)
    masks, make_queries = generator(options.dim, options.clusters, options.seed)
    kind = f"{options.clusters} clusters, seed {options.seed}"
    write_corpus(folder, options.rows, options.dim, ROW_GROUP_ROWS, masks, kind)
    corpus = Corpus.open(options.corpus)
    began = time.perf_counter()
    built = build_index(corpus, make_queries(33, 1))
    built["seconds"] = round(time.perf_counter() - began, 1)
    index = Index.fresh(corpus)
    if index is None:
        raise SystemExit("the index that was just built is not fresh")
    queries = make_queries(options.queries, 0)
    truth = exact(corpus, queries, folder / TRUTH_FOLDER / f"{options.queries}.json")
    print(json.dumps({"built": built}), flush=True)
    for probes in options.probes or [index.info.probes]:
        index.info = replace(index.info, probes=probes, refine=options.refine or index.info.refine)
        results = {name: measure(index, queries, kept, truth[name]) for name, kept in KEPT.items()}
        print(
            json.dumps(
                {"rows": options.rows, "dim": options.dim, "probes": probes, "refine": index.info.refine}
                | {"built": built, "results": results, "machine": short_name()}
            ),
            flush=True,
        )


def exact(corpus: Corpus, queries: np.ndarray, kept_in: Path) -> dict[str, list[list[str]]]:
    """Names of the best of each query under each filter, by the scan; kept in a file that goes with the corpus."""
    if not kept_in.is_file():
        found = {name: scan(corpus, plain_queries(queries), RECALL_AT, where) for name, where in KEPT.items()}
        names = {name: [list(map(mask, hits)) for hits in each] for name, each in found.items()}
        write_result(kept_in, json.dumps(names).encode())
    truth: dict[str, list[list[str]]] = json.loads(kept_in.read_text())
    return truth


def mask(hit: Hit) -> str:
    return f"{hit.image_id}#{hit.mask_index}"


def measure(index: Index, queries: np.ndarray, condition: str | None, truth: list[list[str]]) -> dict[str, float]:
    """Latency and recall under one filter, after a few searches that nobody times; `short`: too few rows."""
    times, shared, short = [], 0, 0
    for number in [*range(_UNTIMED), *range(len(queries))]:
        began = time.perf_counter()
        hits = index.search(plain_queries(queries[number : number + 1]), RECALL_AT, condition)[0] or []
        times.append(1000 * (time.perf_counter() - began))
        if len(times) > _UNTIMED:
            shared += len({*map(mask, hits)} & {*truth[number]})
            short += len(hits) < len(truth[number])
    p50, p95 = np.percentile(times[_UNTIMED:], [50, 95]).round(1).tolist()
    return {"p50_ms": p50, "p95_ms": p95, "recall": round(shared / sum(map(len, truth)), 4), "short": short}


if __name__ == "__main__":
    main()
