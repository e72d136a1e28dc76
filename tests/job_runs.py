"""Runs of the main job for the tests, and what must be equal between them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from warm import AGENTS_ENVIRONMENT, with_interpreter

from fastsam_batch.config import segment_options
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.run import segment_corpus

ROOT = Path(__file__).parents[1]
NAMES = ["chelsea", "coffee", "rocket", "flower"]


def run(photos, output, **options):
    return segment_corpus(segment_options({"input": str(photos), "output": str(output), **options}))


def rows(corpus_uri):
    """Masks by the image's file name, in order, and the images' status: what must be equal between runs."""
    corpus = Corpus.open(str(corpus_uri))
    masks = corpus.masks().sort_by([("image_id", "ascending"), ("mask_index", "ascending")])
    found = {}
    for row in masks.to_pylist():
        found.setdefault(os.path.basename(row["image_id"]), []).append(
            (row["mask_index"], row["area"], tuple(row["bbox"]), row["rle"]["counts"], round(row["score"], 4))
        )
    images = {os.path.basename(row["image_id"]): row["status"] for row in corpus.images().to_pylist()}
    assert len(images) == corpus.images().num_rows
    return found, images


def job(forked_python, *arguments, **options):
    return subprocess.Popen(
        [*with_interpreter(forked_python, ROOT / "jobs" / "segment_corpus.py"), *map(str, arguments)],
        env={**os.environ, **AGENTS_ENVIRONMENT, "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **options,
    )
