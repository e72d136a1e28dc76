"""One unit through the models: encoded images in, tables out. Knows no Ray and no storage."""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.corpus.rows import ImageResult, MaskColumns, UnitResult, images_table, masks_table
from fastsam_batch.decoder import Decoder, decoder
from fastsam_batch.embedding import EmbedQueue, Stages
from fastsam_batch.embedding import UnitOptions as UnitOptions
from fastsam_batch.images import ImageError
from fastsam_batch.isolate import IsolatedDecoder
from fastsam_batch.sources.base import EncodedImage, UnitBytes
from fastsam_batch.stored import StoredUnit

if TYPE_CHECKING:  # torch loads where there are models: what fetches and commits knows none
    from fastsam_batch.models.embedder import Embedder
    from fastsam_batch.models.segmenter import Segmentation, Segmenter

WINDOW_PIXELS = 32_000_000  # decoded pixels held at once, about 100 MB, but never fewer than one image
DECODE_THREADS = 4
WINDOW_BATCHES = 2  # batches of images or tiles whose detections are held at once


@dataclass
class _Decoded:
    """One image on its way: its pixels are dropped as soon as its masks are cropped out."""

    result: ImageResult
    pixels: NDArray[np.uint8] | None


def process_unit(
    unit: UnitBytes,
    segmenter: Segmenter | StoredUnit,
    embedder: Embedder | None,
    options: UnitOptions,
    *,
    isolated: bool = False,
    end_if_stuck: bool = False,
    workers: int = 1,
) -> UnitResult:
    """Decode, segment and embed a unit's images; an image that is none becomes a failed row.

    Masks are found by a `segmenter`, or taken from the same unit as it is stored. `workers` threads take an image
    each; small networks gain more from that than from threads inside each of their layers.

    `isolated` decodes in a child process, for a unit that has ended its process before. Without it,
    `end_if_stuck` ends this process where a decoder hangs: nothing less stops one that holds the interpreter.
    The result depends on the unit's images alone. Pixels held are bounded by WINDOW_PIXELS and one image, and by
    DECODE_THREADS images that are decoded ahead.
    """
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(workers)) if workers > 1 else None
        images = segmenter.to_decode(unit.images) if isinstance(segmenter, StoredUnit) else unit.images
        decoded = _decode_isolated(images, options) if isolated else _decode_ahead(images, options, end_if_stuck)
        window = WINDOW_BATCHES * max(workers, _batch_size(segmenter))
        return _process(unit, decoded, segmenter, embedder, options, pool, window)


def _batch_size(segmenter: Segmenter | StoredUnit) -> int:
    return 1 if isinstance(segmenter, StoredUnit) else segmenter.batch_size


def _process(
    unit: UnitBytes,
    decoded: Iterator[_Decoded],
    segmenter: Segmenter | StoredUnit,
    embedder: Embedder | None,
    options: UnitOptions,
    workers: ThreadPoolExecutor | None,
    window_images: int,
) -> UnitResult:
    started_at = time.time()
    stages = Stages()
    results: list[ImageResult] = []
    embeddings = EmbedQueue(embedder, stages, workers)
    window: list[_Decoded] = []
    for item in stages.each("decode", decoded):
        if isinstance(segmenter, StoredUnit):
            item.result = segmenter.checked(item.result)
            item.pixels = None if item.result.error_kind else item.pixels
        window.append(item)
        full = sum(item.pixels.size // 3 for item in window if item.pixels is not None) >= WINDOW_PIXELS
        if full or len(window) >= window_images:
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
    segmenter: Segmenter | StoredUnit,
    embeddings: EmbedQueue,
    options: UnitOptions,
    stages: Stages,
    workers: ThreadPoolExecutor | None,
) -> list[ImageResult]:
    found: Iterator[MaskColumns]
    if isinstance(segmenter, StoredUnit):
        found = (segmenter.masks(item.result.image_id) for item in window if item.pixels is not None)
    else:
        pixels = [item.pixels for item in window if item.pixels is not None]
        found = map(_columns, _find(pixels, segmenter, stages, workers))
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
    """Masks of each image in order: batches on one device, or an image, or a tile of one, a worker."""
    views = [view for image in images for view in segmenter.views(image)]

    def masks(batch: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        with stages("detect"):
            detected = segmenter.detect(batch)
        with stages("masks"):
            return [segmenter.masks(detections) for detections in detected]

    each = 1 if workers is not None else WINDOW_BATCHES * segmenter.batch_size
    batches = [views[first : first + each] for first in range(0, len(views), each)]
    found = workers.map(masks, batches) if workers is not None else map(masks, batches)
    return segmenter.together(images, itertools.chain.from_iterable(found), lambda: stages("merge"))


def _columns(found: Segmentation) -> MaskColumns:
    return MaskColumns(
        scores=found.scores,
        stability=found.stability,
        areas=found.areas,
        bboxes_xywh=found.bboxes_xywh,
        rles=found.rles,
        embeddings=np.zeros((len(found.rles), 0), np.float32),
        embedded=np.zeros(len(found.rles), np.bool_),
    )
