"""The index command: a LanceDB index of a corpus's embeddings."""

from __future__ import annotations

import argparse
from typing import Any

from fastsam_batch.cli_options import TEXT_ENCODER
from fastsam_batch.cli_progress import note_unfinished


def index_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch index`."""
    add = parser.add_argument
    add("--corpus", required=True, metavar="URI", help="what segment_corpus made; on a local disk, s3:// or gs://")
    add("--embedder", **TEXT_ENCODER)


def index(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch index`: its summary, and the exit code."""
    from fastsam_batch.corpus.read import Corpus
    from fastsam_batch.search.build import RECALL_AT, build_index
    from fastsam_batch.search.find import corpus_background, corpus_encoder
    from fastsam_batch.search.lance import connect

    corpus = Corpus.open(arguments["corpus"])
    connect(corpus.uri)  # what cannot work should say so before a model is loaded
    encode = corpus_encoder(corpus, arguments["embedder"])
    # Texts are what is searched by: recall is measured with an even part of the background's.
    queries = corpus_background(corpus, encode).vectors[::12]
    summary = build_index(corpus, queries)
    print(f"masks    {summary['rows']:,} with an embedding")
    print(f"units    {summary['units']:,} ({summary['new_units']:,} new, {summary['removed_units']:,} gone)")
    kind = f"vectors indexed, {summary['probes']} partitions a search" if summary["indexed"] else "compared row by row"
    print(f"search   {kind}")
    if summary["recall"] is not None:
        print(f"recall   {summary['recall']:.1%} of the exact scan's best {RECALL_AT}, over {len(queries)} texts")
    note_unfinished(corpus)
    return summary, 0
