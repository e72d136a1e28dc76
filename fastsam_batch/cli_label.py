"""The label command: saved queries give every mask a label, or none."""

from __future__ import annotations

import argparse
from typing import Any

from fastsam_batch.cli_options import CORPUS, TEXT_ENCODER
from fastsam_batch.cli_progress import note_unfinished


def label_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch label`."""
    add = parser.add_argument
    add("--corpus", **CORPUS)
    add(
        "--classes",
        required=True,
        metavar="FILE",
        help="YAML of classes: names, texts, contrasts (`not`) and least cosines (`min_score`)",
    )
    add("--output", required=True, metavar="FILE", help="image_id, mask_index, label and score, as .parquet")
    add("--where", metavar="EXPR", help='only masks for which this holds, such as "area > 5000"')
    add("--embedder", **TEXT_ENCODER)


def label(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch label`: its summary, and the exit code."""
    from fastsam_batch.corpus.read import Corpus
    from fastsam_batch.search.classes import read_classes
    from fastsam_batch.search.find import corpus_encoder
    from fastsam_batch.search.label_table import FORMATS, write_labels
    from fastsam_batch.storage import check_ending, redact

    check_ending(arguments["output"], FORMATS)
    classes = read_classes(arguments["classes"])
    corpus = Corpus.open(arguments["corpus"])
    encode = corpus_encoder(corpus, arguments["embedder"])
    counts = write_labels(corpus, classes, encode, arguments["output"], arguments["where"])
    unlabelled = counts.pop(None)
    for name, count in counts.items():
        print(f"{count:9,}  {name}")
    print(f"{unlabelled:9,}  without a label")
    print(f"written  {redact(arguments['output'])}")
    note_unfinished(corpus)
    summary = {
        "masks": sum(counts.values()) + unlabelled,
        "labels": dict(counts),
        "unlabelled": unlabelled,
    }
    return summary, 0
