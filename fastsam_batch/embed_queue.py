"""The second half of a unit: masks of many images to vectors, pooled or by crops in full batches."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.corpus.rows import ImageResult, MaskColumns
from fastsam_batch.models.crops import CROP_KINDS, merge_crops
from fastsam_batch.stages import Stages
from fastsam_batch.threads import Threads, in_order

if TYPE_CHECKING:
    from fastsam_batch.models.embedder import Crop, Embedder

# Crops are made faster than they are embedded: so many batches wait, which is enough to keep all workers busy.
WAITING_BATCHES = 8
MASKS_TOGETHER, MASKS_TOGETHER_ON_GPU = 16, 64  # whose crops one task makes


class EmbedQueue:
    """Masks of many images on their way to vectors: pooled at once, or cropped and embedded in full batches, on the
    device's threads while the caller goes on.
    """

    def __init__(
        self,
        embedder: Embedder | None,
        stages: Stages,
        threads: Threads,
        *,
        crop: str = "both",
        mode: str = "crop",
        min_area: int = 0,
    ) -> None:
        """`crop`, `mode` and `min_area` as a unit's options say them (`unit.UnitOptions`)."""
        self._embedder = embedder
        self._crop, self._mode, self._min_area = crop, mode, min_area
        self._stages = stages
        self._threads = threads
        self._waiting: list[Crop] = []
        self._batches: list[Future[NDArray[np.float32]]] = []
        self._cropped: list[NDArray[np.bool_]] = []
        self._per_mask = len(CROP_KINDS[crop])

    def add(self, pixels: NDArray[np.uint8], found: MaskColumns) -> MaskColumns:
        """An image's masks with room for their embeddings; those of masks that are cropped follow in `finish`."""
        embedder = self._embedder
        if embedder is None:
            return found
        chosen = found.areas >= self._min_area
        vectors = np.zeros((len(chosen), embedder.dim), np.float32)
        cropped = chosen.copy()
        if self._mode == "pool":
            with self._stages("embed"):
                pooled, done = embedder.pool_masks(pixels, found.rles, np.where(chosen, found.areas, 0), self._per_mask)
            vectors[done] = pooled[done]
            cropped &= ~done
        self._cropped.append(cropped)
        for crops in self._crops(embedder, pixels, found, np.flatnonzero(cropped)):
            self._waiting.extend(crops)
            while len(self._waiting) >= embedder.batch_size:
                self._embed(embedder.batch_size)
        return replace(found, embedded=chosen, embeddings=vectors)

    def _crops(
        self, embedder: Embedder, pixels: NDArray[np.uint8], found: MaskColumns, chosen: NDArray[np.int64]
    ) -> Iterator[list[Crop]]:
        """Crops of the chosen masks of an image, those of some masks at a time."""
        if not len(chosen):
            return
        with self._stages("crops"):
            source = embedder.crop_source(pixels)

        def of_some(masks: NDArray[np.int64]) -> list[Crop]:
            with self._stages("crops"):
                rles = [found.rles[mask] for mask in masks.tolist()]
                of_each = embedder.crops_of(source, rles, found.bboxes_xywh[masks], self._crop)
                return [crop for crops in of_each for crop in crops]

        together = MASKS_TOGETHER if embedder.device.type == "cpu" else MASKS_TOGETHER_ON_GPU
        parts = [chosen[first : first + together] for first in range(0, len(chosen), together)]
        yield from in_order(self._threads.host, of_some, parts, self._threads.ahead)

    def finish(self, results: list[ImageResult]) -> list[ImageResult]:
        """The results with all of their embeddings."""
        embedder = self._embedder
        if embedder is None:
            return results
        self._embed(len(self._waiting))
        batches = [batch.result() for batch in self._batches]
        vectors = np.concatenate([*batches, np.zeros((0, embedder.dim), np.float32)])
        merged = merge_crops(vectors, self._per_mask)
        places = iter(self._cropped)
        first = 0
        for result in results:
            if result.masks is not None:
                cropped = next(places)
                end = first + int(cropped.sum())
                result.masks.embeddings[cropped] = merged[first:end]
                first = end
        return results

    def _embed(self, count: int) -> None:
        if not count or self._embedder is None:
            return
        crops = self._waiting[:count]
        del self._waiting[:count]
        if len(self._batches) >= WAITING_BATCHES:
            self._batches[-WAITING_BATCHES].result()
        self._batches.append(self._threads.device.submit(self._timed_embed, crops))

    def _timed_embed(self, crops: list[Crop]) -> NDArray[np.float32]:
        assert self._embedder is not None
        with self._stages("embed"):
            return self._embedder.embed_crops(crops)
