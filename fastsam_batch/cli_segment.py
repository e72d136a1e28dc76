"""The segment command: images in, a corpus of masks with embeddings out."""

from __future__ import annotations

import argparse
from typing import Any

from fastsam_batch.cli_options import ACTORS, GPUS_PER_ACTOR, MAX_FAILED, RECORD_UNREACHABLE


def segment_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch segment`."""
    add = parser.add_argument
    add(
        "--input",
        required=True,
        metavar="URI",
        help="folder of images, .tar/.tar.gz shards, Parquet (bytes or uri), CSV/JSON Lines with uri, a glob, or demo:",
    )
    add("--output", required=True, metavar="URI", help="the corpus; run again to add what is missing")
    models = parser.add_argument_group("models")
    models.add_argument("--segmenter", default="builtin", help="builtin, FastSAM-s, FastSAM-x, or a path or URI")
    models.add_argument(
        "--embedder",
        default="builtin",
        help="builtin, ARCH:TAG of open_clip, hf-hub:ORG/REPO, a folder, ARCH:FILE, or none",
    )
    add = parser.add_argument_group("results (part of the corpus's fingerprint)").add_argument
    add("--imgsz", type=int, help="long side of the network's input; default: the weights' own, FastSAM 1024")
    add("--conf", type=float, help="confidence threshold; default: the weights' own, FastSAM 0.4")
    add("--iou", type=float, help="NMS threshold; default: the weights' own, FastSAM 0.9")
    add("--max-masks", type=int, default=300, help="masks an image at most")
    add(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="segment larger images in tiles of this side too, so that small objects are found; default: no tiles",
    )
    add("--overlap", type=int, metavar="PIXELS", help="what neighbouring tiles share; default: a quarter of --tile")
    add("--min-area", type=int, default=100, help="smaller masks (pixels) get no embedding")
    add(
        "--crop",
        choices=("masked", "context", "both"),
        help="what CLIP sees: background removed, box with margin, or their mean; default: both, with pool masked",
    )
    add(
        "--embedding-mode",
        choices=("crop", "pool"),
        default="crop",
        help="pool: one CLIP pass an image, averaged under each mask; small masks and sparse images keep crops",
    )
    add("--max-pixels", type=int, default=100_000_000, help="larger images fail as too_large")
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="what networks compute in; auto: CLIP in bfloat16 where the device has it, segmenters on CUDA in float16",
    )
    add = parser.add_argument_group("running").add_argument
    add("--unit-size", type=int, default=128, help="images committed together")
    add("--batch-size", type=int, help="images a forward pass; default: 16 on a GPU, 1 on a CPU")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the models run")
    add("--actors", **ACTORS)
    add("--gpus-per-actor", **GPUS_PER_ACTOR)
    add(
        "--limit",
        type=int,
        help="hold at most this many images; more are added by a run with a higher limit or none",
    )
    add("--decode-seconds", type=float, default=60, help="an image that takes longer to decode fails as timeout")
    add("--record-unreachable", **RECORD_UNREACHABLE)
    add("--max-failed-fraction", **MAX_FAILED)
    add("--verbose", action="store_true", help="show Ray's own log, and its statistics of the stages at the end")
    add = parser.add_argument_group("columns of Parquet and manifest inputs").add_argument
    add("--bytes-column", default="bytes", help="encoded image")
    add("--uri-column", default="uri", help="where the image is")
    add("--id-column", default="image_id", help="image_id, optional")


def segment(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch segment`: its summary, and the exit code."""
    import logging

    from fastsam_batch import config
    from fastsam_batch.cli_progress import ProgressLine, finish_run

    options = config.segment_options(arguments)
    from fastsam_batch.run import segment_corpus  # brings torch: a wrong option is told at once

    if options.verbose:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("fastsam_batch").setLevel(logging.INFO)
    summary = segment_corpus(options, ProgressLine().show)
    can_record = not options.record_unreachable
    return summary, finish_run(summary, options.output, options.max_failed_fraction, can_record=can_record)
