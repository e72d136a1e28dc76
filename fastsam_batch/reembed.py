"""A corpus with other embeddings: its stored masks and its photographs through another embedder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from fastsam_batch.config import LATER_OPTIONS, SegmentOptions, segment_options
from fastsam_batch.corpus.info import CorpusInfo, admit, describe
from fastsam_batch.corpus.lease import hold
from fastsam_batch.corpus.plan import PendingRow, pending, read_plans, stream_units, units_by_prefix
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.errors import InputError
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.run import (
    Progress,
    Tally,
    embedder_arguments,
    embedder_entry,
    job_of,
    run_units,
    source_of,
    store_basis,
)
from fastsam_batch.sources import refuse_another_kind
from fastsam_batch.sources.base import Source
from fastsam_batch.sources.fetch import is_refused
from fastsam_batch.storage import redact

# What an embedder does with a mask; everything else stays as the corpus was made.
_EMBEDDING_OPTIONS = ("crop", "min_area", "embedding_mode", "precision")
_READING_OPTIONS = ("max_pixels", "uri_column", "id_column")


def embed_corpus(
    corpus_uri: str, values: dict[str, Any], report: Callable[[Progress], None] = lambda progress: None
) -> dict[str, Any]:
    """Write a corpus's units again with embeddings of another embedder, what is missing of them; the summary.

    `values` are options of `SegmentOptions`: `output`, `embedder`, and any of `crop`, `min_area`,
    `embedding_mode`, `precision` and the columns' (None: as the corpus has it), and the machine's. Units keep their
    names, images and masks; an image that is gone or whose bytes changed becomes a failed row. Raises InputError for
    a corpus, an output or weights that cannot be used.
    """
    began = time.perf_counter()
    corpus = Corpus.open(corpus_uri)
    there = CorpusInfo.of(corpus.info)
    options = _options(there, values)
    if redact(options.output).rstrip("/") == redact(corpus_uri).rstrip("/"):
        raise InputError(f"--output {redact(options.output)}: is the corpus itself; name another place")
    if options.embedder == "none":
        raise InputError("--embedder none: there is nothing to embed with; name an embedder")
    embedder = Embedder(options.embedder, mode=options.embedding_mode)
    models = {"segmenter": there.models["segmenter"], "embedder": embedder_entry(embedder)}
    info = describe(there.input, _results(there.options, options), models, embedder.dim, options.bytes_column)
    # An image that failed before is not needed, so that its store need not answer: each unit tells which those are.
    source = _source(options.model_copy(update={"record_unreachable": True}))
    admit(options.output, info)
    with hold(options.output) as lease:
        made = admit(options.output, info)
        rows, _ = read_plans(corpus_uri)
        refuse_another_kind(options.input, source, rows)
        planned, files = read_plans(options.output)
        begin = partial(store_basis, options.output, None if made else info, files + 1, rows[len(planned) :])
        left, skipped = pending(options.output, rows)
        left = _committed(left, set(corpus.receipts()))
        tally = Tally(skipped)
        if left:
            job = job_of(options, lease, made or info, source, None, embedder_arguments(options), stored=corpus_uri)
            run_units(options, job, left, lease, begin=begin, tally=tally, report=report)
        else:
            begin()
    return tally.summary(time.perf_counter() - began)


def _source(options: SegmentOptions) -> Source:
    """The corpus's input, which it names without what it was signed with. Raises InputError as `source_of`."""
    try:
        return source_of(options)
    except InputError as error:
        if error.__cause__ is None or not is_refused(error.__cause__):
            raise
        raise InputError(
            f"{error}; a corpus keeps no passwords and signatures of its input: let it be read without, or segment it "
            "with this embedder into another --output"
        ) from error


def _options(there: CorpusInfo, values: dict[str, Any]) -> SegmentOptions:
    names = (*_EMBEDDING_OPTIONS, *_READING_OPTIONS)
    as_made = {name: there.options.get(name, LATER_OPTIONS.get(name)) for name in names}
    as_made["bytes_column"] = there.bytes_column
    given = {name: value for name, value in values.items() if value is not None}
    if given.get("embedding_mode", as_made["embedding_mode"]) != as_made["embedding_mode"]:
        del as_made["crop"]  # another mode comes with its own
    # What neither names is as segment_corpus does it by default.
    return segment_options({"input": there.input, **{k: v for k, v in as_made.items() if v is not None}, **given})


def _results(stored: dict[str, Any], options: SegmentOptions) -> dict[str, Any]:
    values = {name: getattr(options, name) for name in _EMBEDDING_OPTIONS}
    kept = {name: value for name, value in stored.items() if name not in _EMBEDDING_OPTIONS}
    return kept | {name: value for name, value in values.items() if value != LATER_OPTIONS.get(name, ...)}


def _committed(left: list[PendingRow], units: set[str]) -> list[PendingRow]:
    """Rows with a unit to embed that the corpus has; what it has not yet is for a later run."""
    by_prefix = units_by_prefix(units)
    rows = []
    for row in left:
        if row.row.kind != "stream":
            rows += [row] if row.row.unit_id in units else []
            continue
        there = frozenset(stream_units(row.row, by_prefix.get(row.row.unit_id, [])))
        if there - row.done:
            rows.append(replace(row, only=there))
    return rows
