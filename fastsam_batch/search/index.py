"""The index of a corpus: which units it holds, whether it is fresh, and searching it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsam_batch import storage
from fastsam_batch.corpus import layout
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.search.best import Best, Hit, Query, exact_cosines, hits_of
from fastsam_batch.search.lance import KEYS, TABLE, connect, nearest, telling_of_table
from fastsam_batch.search.scan import check_queries

INDEX_VERSION = 2
# A filter that keeps no more rows is answered by comparing with each of them.
EXACT_ROWS = 1_500
# Fewer neighbours are not asked for: quantised vectors order the very first ones loosely.
_LEAST = 100
# How far into the ranking an answer is looked for before the exact scan takes over.
_DEEPEST = 16_384
# Filters whose number of rows is remembered.
_COUNTS_KEPT = 1_000


@dataclass(frozen=True)
class IndexInfo:
    """index/index.json: what the table held when it was finished.

    `units` digests of the indexed masks files by unit_id, `table_version` LanceDB's, `rows` in the table,
    `trained_rows` when partitions were last found (0: none are needed yet), `probes` partitions a search
    looks into, `recall` at 100 against the exact scan.
    """

    version: int
    units: Mapping[str, str]
    table_version: int
    rows: int
    trained_rows: int
    probes: int | None
    refine: int
    recall: float | None

    def write(self, corpus: Corpus) -> None:
        """Publish it: from now on searches use this state of the table."""
        fs, root = storage.filesystem(corpus.uri)
        storage.write_atomic(fs, storage.join(root, layout.INDEX_FILE), json.dumps(asdict(self)).encode())


def read_index_info(corpus: Corpus) -> IndexInfo | None:
    """The corpus's index, None where there is none or one of another version. Raises InputError where it is damaged,
    OutageError where its store fails.
    """
    fs, root = storage.filesystem(corpus.uri)
    try:
        fields: dict[str, Any] = json.loads(storage.read_whole(fs, storage.join(root, layout.INDEX_FILE)))
        return IndexInfo(**fields) if fields["version"] == INDEX_VERSION else None
    except FileNotFoundError:
        return None
    except OutageError:
        raise
    except (ValueError, TypeError, KeyError, OSError) as error:
        name = f"{storage.redact(corpus.uri)}/{layout.INDEX_FILE}"
        raise InputError(f"cannot read {name} ({error}); delete the folder index/ and build it again") from error


def digests(corpus: Corpus) -> dict[str, str]:
    """Digests of the masks files of all committed units: what a fresh index holds."""
    return {unit: receipt["files"]["masks"].get("sha256", "") for unit, receipt in corpus.receipts().items()}


class Index:
    """A fresh index, opened."""

    def __init__(self, corpus: Corpus, info: IndexInfo) -> None:
        self.corpus = corpus
        self.info = info
        self.table = connect(corpus.uri).open_table(TABLE)
        self.table.checkout(info.table_version)
        self._count = lru_cache(_COUNTS_KEPT)(self.table.count_rows)

    @classmethod
    def fresh(cls, corpus: Corpus) -> Index | None:
        """The corpus's index where it holds exactly the committed units, its table too, and LanceDB is installed."""
        info = read_index_info(corpus) if find_spec("lancedb") else None
        if info is None or dict(info.units) != digests(corpus):
            return None
        try:
            return cls(corpus, info)
        except (ValueError, FileNotFoundError):  # LanceDB's words for a table, or its version, that is gone
            return None

    def search(self, queries: Sequence[Query], top_k: int, condition: str | None = None) -> list[list[Hit] | None]:
        """As `scan`, approximately: every hit is right, with its exact cosine, but a few may be missing.

        A query is None where too many of the nearest masks do not answer it to tell who else does.
        """
        check_queries(self.corpus, queries, top_k)
        with telling_of_table(self.corpus):
            matching = self.info.rows if condition is None else self._count(condition)
            return [self._answer(query, top_k, condition, matching) for query in queries]

    def _answer(self, query: Query, top_k: int, condition: str | None, matching: int) -> list[Hit] | None:
        plain = not (len(query.none_of) or query.per_image or query.without)
        # A few more than asked for: LanceDB's own distances are off by some 1e-5, so that its last ones are not ours.
        limit = max(top_k + top_k // 10 + 16 + len(query.without), _LEAST)
        while True:
            limit = max(min(limit, matching), 1)
            best = Best(query, limit * len(query.any_of))
            lists = [self._nearest(vector, limit, condition, matching) for vector in query.any_of]
            ends = [self._add(best, rows, vector) for rows, vector in zip(lists, query.any_of, strict=True)]
            whole = limit >= matching
            # Below the end of the longest list some masks that answer by another alternative are missing.
            known = -np.inf if plain or whole else max(ends)
            hits = [hit for hit in best.result() if hit.similarity >= known][:top_k]
            below = query.min_score is not None and max(ends) < query.min_score
            if plain or whole or below or len(hits) == top_k:
                return hits
            if limit >= _DEEPEST:
                return None
            limit *= 4

    def _nearest(self, vector: NDArray[np.float32], limit: int, condition: str | None, matching: int) -> pa.Table:
        few = condition is not None and matching <= EXACT_ROWS
        probes = None if few or not self.info.trained_rows else self.info.probes
        if probes is not None:
            # The fewer masks a filter keeps, the more partitions its nearest lie in; measured by index_recall.py.
            probes = round(probes * (matching / self.info.rows) ** -0.15)
        rows = nearest(self.table, vector, limit, condition, probes, self.info.refine)
        # The partitions looked into can hold fewer rows that match than there are.
        if probes is not None and len(rows) < limit:
            rows = nearest(self.table, vector, limit, condition, None, self.info.refine)
        return rows

    def _add(self, best: Best, rows: pa.Table, vector: NDArray[np.float32]) -> float:
        """Give the rows to the query's best; returns the lowest cosine with this vector."""
        if not len(rows):
            return -np.inf
        rows = rows.combine_chunks()
        embeddings = embedding_matrix(rows["embedding"].combine_chunks())
        query, held = best.query, {(hit.image_id, hit.mask_index) for hit in best.hits}
        exact = query.similarities(embeddings)
        keep = exact >= best.floor
        names = [rows[name].to_pylist() for name in KEYS]
        keep &= np.array([key not in held for key in zip(names[1], names[2], strict=True)])
        kept = np.flatnonzero(keep)
        of_unit: dict[str, list[int]] = {}
        for row in kept.tolist():
            of_unit.setdefault(names[0][row], []).append(row)
        for unit_id, mine in of_unit.items():
            keys = [(names[1][row], names[2][row]) for row in mine]
            best.add(hits_of(query, embeddings[mine], exact[mine], keys, unit_id))
        return float(exact_cosines(embeddings, vector[None]).min())
