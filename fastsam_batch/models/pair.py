"""Both models of a job, loaded where they run."""

from __future__ import annotations

import socket
from typing import Any

import torch

from fastsam_batch.errors import InputError
from fastsam_batch.models.allocator import keep_freed_memory
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter


def load_models(
    segmenter: dict[str, Any] | None,
    embedder: dict[str, Any] | None,
    device: str,
    threads: int | None,
    workers: int = 1,
) -> tuple[Segmenter | None, Embedder | None]:
    """Segmenter and embedder on a device, with `threads` CPU threads for torch where that is given; None for None.
    `workers` threads call them side by side.

    `segmenter` and `embedder` are the arguments of their classes, with the segmenter's option (a name, path
    or URI) under `path`. What holds for the whole process that models run in is settled. Raises InputError as the two
    do.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cpu":
        keep_freed_memory()
    found = None
    if segmenter is not None:
        found = Segmenter(
            **{**segmenter, "path": find_segmenter(segmenter["path"]).main}, device=device, workers=workers
        )
    return found, Embedder(**embedder, device=device) if embedder else None


def check_weights(recorded: dict[str, Any], segmenter: dict[str, Any] | None, embedder: Embedder | None) -> None:
    """Raises InputError where what this machine loads is not what the corpus records under `models`.

    `segmenter` as for `load_models`.
    """
    found = {
        "segmenter": find_segmenter(segmenter["path"]) if segmenter else None,
        "embedder": embedder.files if embedder else None,
    }
    for role, files in found.items():
        if files and sorted(files.sha256().values()) != sorted(recorded[role]["sha256"].values()):
            raise InputError(
                f"--{role} {files.name}: {files.main} on the node {socket.gethostname()} is not the file that the "
                "corpus is made with; put the same file on every node"
            )
