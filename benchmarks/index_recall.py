"""The index of a large corpus: milliseconds a search, and recall@100 against the exact scan, with filters.

Vectors are clustered as embeddings of masks are: a common direction that all share, Zipf-sized clusters around
centres whose spectrum decays (share of dimension d falls as 1/d), and scatter within a cluster of the same
spectrum, float16, unit length. Queries lie where texts do: near a random centre, but off in a direction of
their own that no mask has (the gap between the modalities), with scatter. Filters keep 10 %, 1 % and 0.1 % of
the masks, by a column that has nothing to do with the vectors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from fastsam_batch.search.build import RECALL_AT, train
from fastsam_batch.search.lance import TABLE, nearest, table_schema

KEPT = {"all": None, "10 %": 0.1, "1 %": 0.01, "0.1 %": 0.001}
BLOCK = 20_000


def generator(
    dim: int, clusters: int, seed: int
) -> tuple[Callable[[int, int], np.ndarray], Callable[[int], np.ndarray]]:
    """Functions that make masks (rows, seed) and queries (count), float32 of unit length."""
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

    def queries(count: int) -> np.ndarray:
        random = np.random.default_rng([seed, 10**9])
        scatter = random.standard_normal((count, dim), np.float32) * spectrum
        return unit(gap + 0.6 * centres[random.choice(clusters, count)] + 0.35 * scatter)

    return masks, queries


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, help="where the index lies; needs about 1.3 GB a million rows")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--clusters", type=int, default=4000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--probes", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    import lancedb

    masks, make_queries = generator(options.dim, options.clusters, options.seed)
    queries = make_queries(options.queries)
    schema = table_schema(options.dim)
    shares: list[np.ndarray] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, options.rows, BLOCK):
            rows = min(BLOCK, options.rows - start)
            share = np.random.default_rng([options.seed, 1, start]).random(rows, np.float32)
            shares.append(share)
            flat = pa.array(masks(rows, start).astype(np.float16).reshape(-1))
            columns = {
                name: pa.array(np.zeros(rows), field.type)
                for name, field in zip(schema.names, schema, strict=True)
                if pa.types.is_primitive(field.type)
            }
            columns |= {
                "unit_id": pa.array([f"{start:09d}"] * rows),
                "uri": pa.array(["s3://photos"] * rows),
                "image_id": pa.array([f"{(start + row) // 60:09d}.jpg" for row in range(rows)]),
                "mask_index": pa.array(np.arange(start, start + rows), pa.int32()),
                "score": pa.array(share),
                "embedding": pa.FixedSizeListArray.from_arrays(flat, options.dim),
            }
            yield pa.record_batch([columns[name] for name in schema.names], schema=schema)

    began = time.perf_counter()
    table = lancedb.connect(options.folder).create_table(TABLE, schema=schema, mode="overwrite")
    table.add(pa.RecordBatchReader.from_batches(schema, batches()))
    written = time.perf_counter()
    train(table, options.rows, 0, 1)
    table.optimize()
    built = time.perf_counter()
    print(
        json.dumps({"rows": options.rows, "write_s": round(written - began, 1), "index_s": round(built - written, 1)})
    )

    share = np.concatenate(shares)
    truth = exact(masks, options.rows, queries, share)
    for probes in options.probes:
        result = {name: measure(table, queries, kept, truth[name], probes) for name, kept in KEPT.items()}
        print(
            json.dumps({"probes": probes, "cpus": os.cpu_count(), "machine": platform.machine(), **result}), flush=True
        )


def exact(
    masks: Callable[[int, int], np.ndarray], rows: int, queries: np.ndarray, share: np.ndarray
) -> dict[str, list[set[int]]]:
    """The rows of the best of every query and filter, by a product over float16 vectors."""
    best: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in KEPT}
    for start in range(0, rows, BLOCK):
        vectors = masks(min(BLOCK, rows - start), start).astype(np.float16).astype(np.float32)
        cosines = vectors @ queries.T
        for name, kept in KEPT.items():
            of = np.flatnonzero(share[start : start + BLOCK] < (2 if kept is None else kept))
            best[name].append((of + start, cosines[of]))
    found = {}
    for name, parts in best.items():
        numbers, cosines = (np.concatenate([part[i] for part in parts]) for i in range(2))
        top = np.argsort(-cosines, axis=0, kind="stable")[:RECALL_AT]
        found[name] = [set(numbers[column].tolist()) for column in top.T]
    return found


def measure(table, queries: np.ndarray, kept: float | None, truth: list[set[int]], probes: int) -> dict[str, float]:
    """Latency and recall of one filter, after a few searches that nobody times."""
    from fastsam_batch.search.index import EXACT_ROWS

    condition = None if kept is None else f"(score < {kept})"
    times, shared, short = [], 0, 0
    for number, query in enumerate([*queries[:5], *queries]):
        began = time.perf_counter()
        few = condition is not None and table.count_rows(condition) <= EXACT_ROWS
        found = nearest(table, query, RECALL_AT, condition, None if few else probes, 10)
        seconds = time.perf_counter() - began
        if number >= 5:
            times.append(1000 * seconds)
            rows = set(found["mask_index"].to_pylist())
            shared += len(rows & truth[number - 5])
            short += len(rows) < len(truth[number - 5])
    p50, p95 = np.percentile(times, [50, 95]).round(1).tolist()
    return {"p50_ms": p50, "p95_ms": p95, "recall": round(shared / sum(map(len, truth)), 4), "short": short}


if __name__ == "__main__":
    main()
