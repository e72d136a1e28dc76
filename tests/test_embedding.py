"""Crops on their way to vectors."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fastsam_batch.corpus.rows import ImageResult, MaskColumns
from fastsam_batch.embedding import WAITING_BATCHES, EmbedQueue, Stages, UnitOptions
from fastsam_batch.masks.rle import Rle


class Slow:
    """An embedder that is slower than crops are made, and knows how many of them wait. A crop's vector is an angle."""

    dim, batch_size = 2, 4

    def __init__(self):
        self.waiting = self.most = 0
        self.lock = threading.Lock()

    def crops_of(self, image, rles, bboxes_xywh, mode):
        for number in range(len(rles)):
            with self.lock:
                self.waiting += 1
                self.most = max(self.most, self.waiting)
            yield [np.full((1, 1, 3), number, np.uint8)]

    def embed_crops(self, crops):
        time.sleep(0.002)
        with self.lock:
            self.waiting -= len(crops)
        angles = crops[:, 0, 0, 0] / 255
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def test_crops_do_not_pile_up_and_none_is_lost_or_moved():
    count = 250
    columns = MaskColumns(
        scores=np.ones(count, np.float32),
        stability=np.ones(count, np.float32),
        areas=np.full(count, 1000),
        bboxes_xywh=np.zeros((count, 4), np.float32),
        rles=[Rle((2, 2), "")] * count,
        embeddings=np.zeros((count, 0), np.float32),
        embedded=np.zeros(count, np.bool_),
    )
    embedder = Slow()
    with ThreadPoolExecutor(2) as pool:
        queue = EmbedQueue(embedder, Stages(), pool)
        found = queue.add(np.zeros((2, 2, 3), np.uint8), columns, UnitOptions(crop="masked"))
        (result,) = queue.finish([ImageResult("a", "a", masks=found)])
    angles = np.arctan2(result.masks.embeddings[:, 1], result.masks.embeddings[:, 0])
    assert np.abs(angles - np.arange(count) / 255).max() < 1e-5
    # Two workers, each with a batch that it may just have ended, and the one that is being filled.
    assert embedder.most <= (WAITING_BATCHES + 3) * embedder.batch_size
