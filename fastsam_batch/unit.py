"""One unit through the models: encoded images in, tables out. Knows no Ray and no storage."""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.corpus.rows import ImageResult, MaskColumns, UnitResult, images_table, masks_table
from fastsam_batch.decoder import Decoder, decoder
from fastsam_batch.images import ImageError
from fastsam_batch.isolate import SECONDS_AN_IMAGE, IsolatedDecoder
from fastsam_batch.models.embedder import CROP_KINDS, Embedder, merge_crops
from fastsam_batch.models.segmenter import Segmentation, Segmenter
from fastsam_batch.sources.base import EncodedImage, UnitBytes

WINDOW_PIXELS = 32_000_000  # decoded pixels held at once, about 100 MB, but never fewer than one image
DECODE_THREADS = 4
T = TypeVar("T")


@dataclass(frozen=True)
class UnitOptions:
    """How a unit is processed. `min_area` in pixels: smaller masks get no embedding.

    `embedding_mode` is `crop` or `pool`; a pooled unit's small masks are cropped as `crop` says.
    `decode_seconds`: an image that takes longer to decode is given up, where that can be told.
    """

    crop: str = "both"
    embedding_mode: str = "crop"
    min_area: int = 100
    max_pixels: int = 100_000_000
    decode_seconds: float = SECONDS_AN_IMAGE


class Stages:
    """Seconds by stage, summed over threads."""

    def __init__(self) -> None:
        self.seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            with self._lock:
                self.seconds[name] += seconds

    def each(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """The items of an iterator, the time each one took counted under `name`."""
        while True:
            with self(name):
                item = next(items, None)
            if item is None:
                return
            yield item


@dataclass
class _Decoded:
    """One image on its way: its pixels are dropped as soon as its masks are cropped out."""

    result: ImageResult
    pixels: NDArray[np.uint8] | None


def process_unit(
    unit: UnitBytes,
    segmenter: Segmenter,
    embedder: Embedder | None,
    options: UnitOptions,
    *,
    isolated: bool = False,
    end_if_stuck: bool = False,
) -> UnitResult:
    """Decode, segment and embed a unit's images; an image that is none becomes a failed row.

    `isolated` decodes in a child process, for a unit that has ended its process before. Without it,
    `end_if_stuck` ends this process where a decoder hangs: nothing less stops one that holds the interpreter.
    The result depends on the unit's images alone. Pixels held are bounded by WINDOW_PIXELS or one image.
    """
    with contextlib.ExitStack() as stack:
        # Small networks gain more from an image a thread than from threads inside each of their layers.
        workers = stack.enter_context(ThreadPoolExecutor(segmenter.workers)) if segmenter.workers > 1 else None
        return _process(unit, segmenter, embedder, options, isolated, end_if_stuck, workers)


def _process(
    unit: UnitBytes,
    segmenter: Segmenter,
    embedder: Embedder | None,
    options: UnitOptions,
    isolated: bool,
    end_if_stuck: bool,
    workers: ThreadPoolExecutor | None,
) -> UnitResult:
    started_at = time.time()
    stages = Stages()
    results: list[ImageResult] = []
    embeddings = _EmbedQueue(embedder, stages, workers)
    window: list[_Decoded] = []
    decoded = _decode_isolated(unit.images, options) if isolated else _decode_ahead(unit.images, options, end_if_stuck)
    for item in stages.each("decode", decoded):
        window.append(item)
        full = sum(item.pixels.size // 3 for item in window if item.pixels is not None) >= WINDOW_PIXELS
        if full or len(window) >= 2 * max(segmenter.batch_size, segmenter.workers):
            results.extend(_segment(window, segmenter, embeddings, options, stages, workers))
            window = []
    results.extend(_segment(window, segmenter, embeddings, options, stages, workers))
    finished = embeddings.finish(results)
    with stages("tables"):
        images = images_table(finished, unit.unit_id)
        masks = masks_table(finished, embedder.dim if embedder else None)
    return UnitResult(
        unit_id=unit.unit_id,
        shard=unit.shard,
        last=unit.last,
        images=images,
        masks=masks,
        started_at=started_at,
        stages=dict(stages.seconds),
    )


def _decode(image: EncodedImage, options: UnitOptions, decoder: Decoder) -> _Decoded:
    if image.data is None:
        failed = ImageResult(image.image_id, image.uri, error_kind=image.error_kind, error_message=image.error_message)
        return _Decoded(failed, None)
    result = ImageResult(image.image_id, image.uri, sha256=hashlib.sha256(image.data).hexdigest())
    try:
        pixels = decoder(image.data, options.max_pixels)
    except ImageError as error:
        return _Decoded(replace(result, error_kind=error.kind, error_message=error.message), None)
    return _Decoded(replace(result, image_hw=pixels.shape[:2]), pixels)


def _decode_ahead(images: Sequence[EncodedImage], options: UnitOptions, end_if_stuck: bool) -> Iterator[_Decoded]:
    """Decode in threads, a few images ahead of the one asked for, in order."""
    decode = decoder()
    watch = _ending_if_stuck(options.decode_seconds) if end_if_stuck else contextlib.nullcontext
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        ahead: collections.deque[Future[_Decoded]] = collections.deque()
        for image in images:
            ahead.append(pool.submit(_decode, image, options, decode))
            if len(ahead) >= DECODE_THREADS:
                with watch():
                    first = ahead.popleft().result()
                yield first
        while ahead:
            with watch():
                first = ahead.popleft().result()
            yield first


def _ending_if_stuck(seconds: float) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Makes guards that end the process, its stacks on stderr, where what they stand around takes longer.

    faulthandler's watchdog needs no interpreter lock, which a hanging decoder may hold.
    """

    @contextlib.contextmanager
    def watch() -> Iterator[None]:
        faulthandler.dump_traceback_later(seconds, exit=True, file=2)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    return watch


def _decode_isolated(images: Sequence[EncodedImage], options: UnitOptions) -> Iterator[_Decoded]:
    with IsolatedDecoder(options.decode_seconds) as child:
        for image in images:
            yield _decode(image, options, child.decode)


def _segment(
    window: list[_Decoded],
    segmenter: Segmenter,
    embeddings: _EmbedQueue,
    options: UnitOptions,
    stages: Stages,
    workers: ThreadPoolExecutor | None,
) -> list[ImageResult]:
    pixels = [item.pixels for item in window if item.pixels is not None]
    found = _find(pixels, segmenter, stages, workers)
    results = []
    for item in window:
        if item.pixels is None:
            results.append(item.result)
            continue
        results.append(replace(item.result, masks=embeddings.add(item.pixels, next(found), options)))
        item.pixels = None
    return results


def _find(
    images: list[NDArray[np.uint8]], segmenter: Segmenter, stages: Stages, workers: ThreadPoolExecutor | None
) -> Iterator[Segmentation]:
    """Masks of each image in order: batches on one device, or an image a worker."""

    def one(image: NDArray[np.uint8]) -> Segmentation:
        with stages("detect"):
            (detections,) = segmenter.detect([image])
        with stages("masks"):
            return segmenter.masks(detections)

    if workers is not None:
        return workers.map(one, images)
    with stages("detect"):
        detected = segmenter.detect(images)
    with stages("masks"):
        return iter([segmenter.masks(detections) for detections in detected])


def _columns(found: Segmentation, embedded: NDArray[np.bool_], embeddings: NDArray[np.float32]) -> MaskColumns:
    return MaskColumns(
        scores=found.scores,
        stability=found.stability,
        areas=found.areas,
        bboxes_xywh=found.bboxes_xywh,
        rles=found.rles,
        embeddings=embeddings,
        embedded=embedded,
    )


class _EmbedQueue:
    """Masks of many images on their way to vectors: pooled at once, or cropped and embedded in full batches.

    With workers the batches are embedded in them, while the caller goes on.
    """

    def __init__(self, embedder: Embedder | None, stages: Stages, workers: ThreadPoolExecutor | None) -> None:
        self._embedder = embedder
        self._stages = stages
        self._workers = workers
        self._waiting: list[NDArray[np.uint8]] = []
        self._batches: list[Future[NDArray[np.float32]]] = []
        self._cropped: list[NDArray[np.bool_]] = []
        self._per_mask = 1

    def add(self, pixels: NDArray[np.uint8], found: Segmentation, options: UnitOptions) -> MaskColumns:
        """An image's masks as columns; the embeddings of those that are cropped follow in `finish`."""
        embedder = self._embedder
        if embedder is None:
            none = np.zeros(len(found.rles), np.bool_)
            return _columns(found, none, np.zeros((len(none), 0), np.float32))
        self._per_mask = len(CROP_KINDS[options.crop])
        chosen = found.areas >= options.min_area
        vectors = np.zeros((len(chosen), embedder.dim), np.float32)
        cropped = chosen.copy()
        if options.embedding_mode == "pool":
            with self._stages("embed"):
                pooled, done = embedder.pool_masks(
                    pixels, found.rles, found.bboxes_xywh, np.where(chosen, found.areas, 0), self._per_mask
                )
            vectors[done] = pooled[done]
            cropped &= ~done
        self._cropped.append(cropped)
        rles = [rle for rle, wanted in zip(found.rles, cropped.tolist(), strict=True) if wanted]
        of_masks = embedder.crops_of(pixels, rles, found.bboxes_xywh[cropped], options.crop)
        for crops in self._stages.each("crops", of_masks):
            self._waiting.extend(crops)
            if len(self._waiting) >= embedder.batch_size:
                self._embed(embedder.batch_size)
        return _columns(found, chosen, vectors)

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
        crops = np.stack(self._waiting[:count])
        del self._waiting[:count]
        if self._workers is not None:
            self._batches.append(self._workers.submit(self._timed_embed, crops))
            return
        batch: Future[NDArray[np.float32]] = Future()
        batch.set_result(self._timed_embed(crops))
        self._batches.append(batch)

    def _timed_embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert self._embedder is not None
        with self._stages("embed"):
            return self._embedder.embed_crops(crops)
