"""One unit through the models: encoded images in, tables out. Knows no Ray and no storage."""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.corpus.rows import ImageResult, MaskColumns, UnitResult, images_table, masks_table
from fastsam_batch.decoder import Decoder, decoder
from fastsam_batch.embed_queue import EmbedQueue
from fastsam_batch.images import ImageError
from fastsam_batch.isolate import SECONDS_AN_IMAGE, IsolatedDecoder
from fastsam_batch.mask_queue import MaskQueue
from fastsam_batch.sources.base import EncodedImage, UnitBytes
from fastsam_batch.stages import Stages
from fastsam_batch.stored import StoredUnit
from fastsam_batch.threads import Threads, each_within, in_order, threads_for

if TYPE_CHECKING:  # torch loads where there are models: what fetches and commits knows none
    from fastsam_batch.models.embedder import Embedder
    from fastsam_batch.models.segmenter import Segmenter

WINDOW_PIXELS = 32_000_000  # decoded pixels held at once, about 100 MB, but never fewer than one image
WINDOW_PIXELS_ON_GPU = 128_000_000  # full batches of large images take more
WINDOW_BATCHES = 2  # images held at once, in times of those that are segmented together or side by side
DECODE_THREADS = 4  # on a GPU as many as workers, where that is more


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
    of_device: Executor | None = None,
) -> UnitResult:
    """Decode, segment and embed a unit's images; an image that is none becomes a failed row.

    Masks are found by a `segmenter`, or taken from the same unit as it is stored. `workers` and `of_device` as in
    `threads_for`.

    `isolated` decodes in a child process, for a unit that has ended its process before. Without it,
    `end_if_stuck` ends this process where a decoder hangs: nothing less stops one that holds the interpreter.
    The result depends on the unit's images alone. Pixels held are bounded by WINDOW_PIXELS (on a GPU by
    WINDOW_PIXELS_ON_GPU) and one image, and by the images that are decoded ahead.
    """
    images = segmenter.to_decode(unit.images) if isinstance(segmenter, StoredUnit) else unit.images
    models = [model for model in (segmenter, embedder) if model is not None and not isinstance(model, StoredUnit)]
    device = models[0].device.type if models else "cpu"
    decoders = DECODE_THREADS if device == "cpu" else max(DECODE_THREADS, workers)
    decoded = _decode_isolated(images, options) if isolated else _decode_ahead(images, options, end_if_stuck, decoders)
    # Closed with the unit, also where it fails: the decoder's child and threads do not wait to be collected.
    with contextlib.closing(decoded), threads_for(device, workers, of_device) as threads:
        window_pixels = WINDOW_PIXELS if device == "cpu" else WINDOW_PIXELS_ON_GPU
        return _process(unit, decoded, segmenter, embedder, options, threads, window_pixels)


def _process(
    unit: UnitBytes,
    decoded: Iterator[_Decoded],
    segmenter: Segmenter | StoredUnit,
    embedder: Embedder | None,
    options: UnitOptions,
    threads: Threads,
    window_pixels: int,
) -> UnitResult:
    started_at = time.time()
    stages = Stages()
    results: list[ImageResult] = []
    embeddings = EmbedQueue(
        embedder, stages, threads, crop=options.crop, mode=options.embedding_mode, min_area=options.min_area
    )
    masks_of = segmenter if isinstance(segmenter, StoredUnit) else MaskQueue(segmenter, stages, threads)
    window: collections.deque[_Decoded] = collections.deque()
    window_images = WINDOW_BATCHES * max(threads.workers, masks_of.together)

    def finish_first() -> None:
        item = window.popleft()
        result = item.result
        if item.pixels is not None:
            masks = _next_masks(masks_of, item)
            result = replace(result, masks=embeddings.add(item.pixels, masks))
        results.append(result)

    for item in each_within(partial(stages, "decode"), decoded):
        _begin(masks_of, item)
        window.append(item)
        while len(window) >= window_images or _pixels(window) >= window_pixels:
            finish_first()
    while window:
        finish_first()
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


def _decode_ahead(
    images: Sequence[EncodedImage], options: UnitOptions, end_if_stuck: bool, threads: int
) -> Generator[_Decoded, None, None]:
    """Decode in threads, a few images ahead of the one asked for, in order."""
    decode = decoder()
    watch = _ending_if_stuck(options.decode_seconds) if end_if_stuck else contextlib.nullcontext
    with ThreadPoolExecutor(threads) as pool:
        yield from each_within(watch, in_order(pool, lambda image: _decode(image, options, decode), images, threads))


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


def _decode_isolated(images: Sequence[EncodedImage], options: UnitOptions) -> Generator[_Decoded, None, None]:
    with IsolatedDecoder(options.decode_seconds) as child:
        for image in images:
            yield _decode(image, options, child.decode)


def _begin(masks_of: MaskQueue | StoredUnit, item: _Decoded) -> None:
    """Send an image on its way to its masks; one that is not as it was stored fails."""
    if isinstance(masks_of, StoredUnit):
        item.result = masks_of.checked(item.result)
        item.pixels = None if item.result.error_kind else item.pixels
    elif item.pixels is not None:
        masks_of.put(item.pixels)


def _next_masks(masks_of: MaskQueue | StoredUnit, item: _Decoded) -> MaskColumns:
    if isinstance(masks_of, StoredUnit):
        return masks_of.masks(item.result.image_id)
    found = masks_of.get()
    return MaskColumns.found(found.scores, found.stability, found.areas, found.bboxes_xywh, found.rles)


def _pixels(window: Iterable[_Decoded]) -> int:
    return sum(item.pixels.size // 3 for item in window if item.pixels is not None)
