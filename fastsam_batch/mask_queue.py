"""The first half of a unit: decoded images to masks, while the caller goes on with the images before them."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.stages import Stages
from fastsam_batch.threads import InThisThread, Threads

if TYPE_CHECKING:
    from fastsam_batch.models.segmenter import Detections, Prepared, Segmentation, Segmenter

BATCHES_TOGETHER = 2  # views among which full batches of one shape are sought, in batches


class MaskQueue:
    """Images on their way to masks, first in, first out.

    Their views (an image, or a tile of one) go through the network some at a time: on a CPU one by one, on a GPU in
    full batches, as far as images are put in before the first is taken out. A GPU's thread finds them resized.
    """

    def __init__(self, segmenter: Segmenter, stages: Stages, threads: Threads) -> None:
        self._segmenter = segmenter
        self._stages = stages
        self._threads = threads
        self.together = 1 if segmenter.batch_size == 1 else BATCHES_TOGETHER * segmenter.batch_size
        # A view's prototypes take megabytes: the device waits where masks are made more slowly than it finds them.
        self._room = threading.Semaphore(2 * max(self.together, threads.workers))
        self._images: collections.deque[NDArray[np.uint8]] = collections.deque()
        self._waiting: list[Callable[[], Prepared]] = []
        self._begun: collections.deque[tuple[Future[list[Future[Segmentation]]], int]] = collections.deque()

    def put(self, pixels: NDArray[np.uint8]) -> None:
        """Take an image, uint8 RGB [height, width, 3]."""
        self._images.append(pixels)
        for view in self._segmenter.views(pixels):
            prepare = partial(self._segmenter.prepare, view)
            inline = isinstance(self._threads.host, InThisThread)
            self._waiting.append(prepare if inline else self._threads.host.submit(prepare).result)
            if len(self._waiting) >= self.together:
                self._begin()

    def get(self) -> Segmentation:
        """The masks of the first image that was put in and is not taken out yet."""
        image = self._images.popleft()
        return next(self._segmenter.together([image], iter(self._next, None), lambda: self._stages("merge")))

    def _begin(self) -> None:
        batch = self._threads.device.submit(self._detect, self._waiting)
        self._begun.extend((batch, place) for place in range(len(self._waiting)))
        self._waiting = []

    def _next(self) -> Segmentation:
        if not self._begun:
            self._begin()
        batch, place = self._begun.popleft()
        return batch.result()[place].result()

    def _detect(self, views: Sequence[Callable[[], Prepared]]) -> list[Future[Segmentation]]:
        with self._stages("detect"):
            detected = self._segmenter.detect_prepared([prepared() for prepared in views])
        begun = []
        for detections in detected:
            self._room.acquire()
            begun.append(self._threads.host.submit(self._masks, detections))
        return begun

    def _masks(self, detections: Detections) -> Segmentation:
        try:
            with self._stages("masks"):
                return self._segmenter.masks(detections)
        finally:
            self._room.release()
