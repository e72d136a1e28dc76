"""Which engine answers a search: a fresh index, or the exact scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.corpus.sql import NotInSql, where_sql
from fastsam_batch.errors import InputError
from fastsam_batch.search.best import Hit, Query
from fastsam_batch.search.index import Index
from fastsam_batch.search.lance import FILTERS
from fastsam_batch.search.scan import scan
from fastsam_batch.storage import redact

ENGINES = ("auto", "index", "scan", "distributed")


@dataclass
class Engine:
    """Answers queries of one corpus; `used` says by what, in the order of first use.

    `name` is `auto` (a fresh index where there is one, else the scan), `index` (refused without a fresh
    one, and for what it cannot answer), `scan`, or `distributed` (the scan as a Ray Data job).
    """

    corpus: Corpus
    name: str = "auto"
    used: list[str] = field(default_factory=list)
    left: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise InputError(f"--engine {self.name}: the engines are {', '.join(ENGINES)}")
        self._index = Index.fresh(self.corpus) if self.name in ("auto", "index") else None
        if self.name == "index" and self._index is None:
            raise InputError(
                f"the corpus {redact(self.corpus.uri)} has no index of its present masks; "
                "build one by index_corpus, or use --engine scan"
            )

    def search(self, queries: Sequence[Query], top_k: int, where: Where) -> list[list[Hit]]:
        """As `scan`; approximate where the index answers."""
        hits: list[list[Hit] | None] = [None] * len(queries)
        condition = self._condition(where)
        if self._index is not None and (where is None or condition is not None):
            hits = self._index.search(queries, top_k, condition)
            self._use("index")
        left = [query for query, found in zip(queries, hits, strict=True) if found is None]
        if left and self.name == "index":
            raise InputError("--engine index: this search needs the scan; use --engine auto")
        scanned = iter(self._scan(left, top_k, where) if left else [])
        return [next(scanned) if found is None else found for found in hits]

    def _scan(self, queries: Sequence[Query], top_k: int, where: Where) -> list[list[Hit]]:
        if self.name != "distributed":
            self._use("scan")
            return scan(self.corpus, queries, top_k, where, left=self.left)
        from fastsam_batch.search.distributed import scan_distributed

        self._use("distributed")
        return scan_distributed(self.corpus, queries, top_k, where)

    def _condition(self, where: Where) -> str | None:
        if not isinstance(where, str) or self._index is None:
            return None
        try:
            return where_sql(where, self.corpus.filter_columns(), FILTERS)
        except NotInSql as error:
            if self.name == "index":
                raise InputError(f"--engine index: the index cannot filter by {error}; use --engine auto") from error
            return None

    def _use(self, engine: str) -> None:
        if engine not in self.used:
            self.used.append(engine)
