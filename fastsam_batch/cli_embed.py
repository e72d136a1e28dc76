"""The embed command: other embeddings for masks that are stored."""

from __future__ import annotations

import argparse
from typing import Any

from fastsam_batch.cli_options import ACTORS, CORPUS, GPUS_PER_ACTOR, MAX_FAILED, RECORD_UNREACHABLE


def embed_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch embed`."""
    add = parser.add_argument
    add("--corpus", **CORPUS)
    add("--output", required=True, metavar="URI", help="the new corpus; run again to go on")
    add(
        "--embedder",
        required=True,
        help="builtin, ARCH:TAG of open_clip, hf-hub:ORG/REPO, a folder, or ARCH:FILE",
    )
    add = parser.add_argument_group("results (default: as the corpus has them)").add_argument
    add("--crop", choices=("masked", "context", "both"), help="what CLIP sees")
    add("--min-area", type=int, help="smaller masks (pixels) get no embedding")
    add("--embedding-mode", choices=("crop", "pool"), help="pool: one CLIP pass an image, averaged under each mask")
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="what CLIP computes in; auto: bfloat16 where the device has it",
    )
    add = parser.add_argument_group("running").add_argument
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the model runs")
    add("--actors", **ACTORS)
    add("--gpus-per-actor", **GPUS_PER_ACTOR)
    add("--record-unreachable", **RECORD_UNREACHABLE)
    add("--max-failed-fraction", **MAX_FAILED)
    add("--verbose", action="store_true", help="show Ray's own log")
    add = parser.add_argument_group(
        "columns of Parquet and manifest inputs (default: as the corpus has them)"
    ).add_argument
    add("--bytes-column", help="encoded image")
    add("--uri-column", help="where the image is")
    add("--id-column", help="image_id, optional")


def embed(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch embed`: its summary, and the exit code."""
    from fastsam_batch.cli_progress import ProgressLine, finish_run
    from fastsam_batch.reembed import embed_corpus

    corpus = arguments.pop("corpus")
    summary = embed_corpus(corpus, arguments, ProgressLine().show)
    can_record = not arguments["record_unreachable"]
    return summary, finish_run(summary, arguments["output"], arguments["max_failed_fraction"], can_record=can_record)
