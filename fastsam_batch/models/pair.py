"""Both models of a job, loaded where they run."""

from __future__ import annotations

from typing import Any

import torch

from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter


def load_models(
    segmenter: dict[str, Any], embedder: dict[str, Any] | None, device: str, threads: int | None
) -> tuple[Segmenter, Embedder | None]:
    """Segmenter and embedder on a device; `threads` CPU threads where that is given, an image in each.

    `segmenter` and `embedder` are the arguments of their classes, with the segmenter's option (a name, path
    or URI) under `path`. Raises InputError as the two do.
    """
    arguments = {**segmenter, "path": find_segmenter(segmenter["path"]).main}
    if threads is not None:
        torch.set_num_threads(1)
        arguments["workers"] = threads
    return Segmenter(**arguments, device=device), Embedder(**embedder, device=device) if embedder else None
