"""Building a corpus's index: what is new is added, what is gone is removed, and its recall is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsam_batch import storage
from fastsam_batch.corpus import layout
from fastsam_batch.corpus.lease import Lease, hold
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.search.best import Hit, plain_queries
from fastsam_batch.search.index import INDEX_VERSION, Index, IndexInfo, digests, read_index_info
from fastsam_batch.search.lance import SCALARS, TABLE, connect, table_schema, telling_of_table, unit_rows
from fastsam_batch.search.scan import check_embedded, scan

# Below, comparing with every row is as fast, and exact (LanceDB's own advice).
LEAST_ROWS = 100_000
RECALL_AT = 100
# A search looks into more partitions until so much is found of what the exact scan finds.
_WANTED = 0.98
_FIRST_PROBES = 8
# Rows whose stored vectors rank them again, for each that is asked for: most of a search's random reads.
_REFINE = 2
# Small enough to be found quickly and read from a store, large enough that few are looked into.
_PARTITION_ROWS = 4096
# Partitions are found anew when the table has grown by this factor.
_GROWN = 1.5
_FEW = 500


def build_index(corpus: Corpus, queries: NDArray[np.float32], least_rows: int = LEAST_ROWS) -> dict[str, Any]:
    """Bring the corpus's index up to date and measure it by unit vectors float32 [q, D]; returns the summary.

    Only units that are new, changed or gone since the last time are read or removed. From `least_rows` masks
    on the vectors are indexed (IVF with 8-bit codes, re-ranked by the stored float16), below they are only
    stored. Until it is finished, searches use the scan. Raises InputError for a corpus without embeddings, and where
    another build is at work on it.
    """
    check_embedded(corpus)
    # Of two builds at once each would restore and change the other's half-made table.
    with hold(storage.join(corpus.uri, layout.INDEX_FOLDER)) as lease:
        return _build(corpus, queries, least_rows, lease)


def _build(corpus: Corpus, queries: NDArray[np.float32], least_rows: int, lease: Lease) -> dict[str, Any]:
    wanted = digests(corpus)
    before = read_index_info(corpus)
    table, held = _table(corpus, before)
    new = [unit for unit, digest in wanted.items() if held.get(unit) != digest]
    gone = [unit for unit in held if unit not in wanted]
    if new or gone or before is None:
        with telling_of_table(corpus):
            _change(corpus, table, new, gone)
            rows = table.count_rows()
            trained = train(table, rows, before.trained_rows if before and held else 0, least_rows)
            table.optimize()
        info = IndexInfo(INDEX_VERSION, wanted, table.version, rows, trained, None, _REFINE, None)
        info = _measured(corpus, info, queries)
        lease.check()
        info.write(corpus)
    else:
        info = before
    return {
        "rows": info.rows,
        "units": len(wanted),
        "new_units": len(new),
        "removed_units": len(gone),
        "indexed": bool(info.trained_rows),
        "probes": info.probes,
        "recall": info.recall,
    }


def _table(corpus: Corpus, before: IndexInfo | None) -> tuple[Any, Mapping[str, str]]:
    """The table, and the units it holds for certain: it is looked at as the last finished build left it."""
    database = connect(corpus.uri)
    schema = table_schema(corpus.embedding_dim or 1)
    try:
        table = database.open_table(TABLE) if before is not None else None
    except (ValueError, FileNotFoundError):  # LanceDB's word for a table that is gone
        table = None
    if before is not None and table is not None and before.table_version in _versions(table):
        table.checkout(before.table_version)
        if table.schema.equals(schema):
            return table, before.units
    return database.create_table(TABLE, schema=schema, mode="overwrite"), {}


def _versions(table: Any) -> set[int]:
    """LanceDB keeps those of the last seven days, and the latest."""
    return {version["version"] for version in table.list_versions()}


def _change(corpus: Corpus, table: Any, new: list[str], gone: list[str]) -> None:
    # An interrupted build may have added and removed rows since, of units that are others by now.
    table.restore(table.version)
    remove = [*gone, *new] if table.count_rows() else []
    for start in range(0, len(remove), _FEW):
        names = ", ".join("'" + unit.replace("'", "''") + "'" for unit in remove[start : start + _FEW])
        table.delete(f"unit_id IN ({names})")
    batches = unit_rows(corpus, new)
    table.add(pa.RecordBatchReader.from_batches(table_schema(corpus.embedding_dim or 1), batches))


def train(table: Any, rows: int, trained_rows: int, least_rows: int) -> int:
    """Make the indices that a table lacks; returns how many rows its partitions were found from, 0 for none."""
    from lancedb.index import BTree, IvfSq

    have = {column for index in table.list_indices() for column in index.columns}
    for column in SCALARS:
        if rows and column not in have:
            table.create_index(column, config=BTree())
    if rows < max(least_rows, 1):
        return 0
    if trained_rows and "embedding" in have and rows <= _GROWN * trained_rows:
        return trained_rows
    partitions = max(rows // _PARTITION_ROWS, 1)
    config = IvfSq(distance_type="cosine", num_partitions=partitions, sample_rate=64, max_iterations=20)
    table.create_index("embedding", config=config, replace=True)
    return rows


def _measured(corpus: Corpus, info: IndexInfo, queries: NDArray[np.float32]) -> IndexInfo:
    """With the fewest partitions that find enough of what the exact scan finds, and how much that is."""
    if not info.rows:
        return info
    asked = plain_queries(queries)
    exact = scan(corpus, asked, RECALL_AT)
    probes = _FIRST_PROBES
    while True:
        info = replace(info, probes=probes)
        found = Index(corpus, info).search(asked, RECALL_AT)
        info = replace(info, recall=recall(found, exact))
        if not info.trained_rows:
            return replace(info, probes=None)
        if (info.recall or 0) >= _WANTED or probes >= info.rows // _PARTITION_ROWS:
            return info
        probes = math.ceil(1.25 * probes)


def recall(found: list[list[Hit] | None], exact: list[list[Hit]]) -> float:
    """The share of the exact scan's hits that the index finds, over all queries."""
    shared = sum(
        len({hit[1:3] for hit in hits or []} & {hit[1:3] for hit in truth})
        for hits, truth in zip(found, exact, strict=True)
    )
    return round(shared / max(sum(map(len, exact)), 1), 4)
