"""Crops on their way to vectors."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from fastsam_batch.corpus.rows import ImageResult, MaskColumns
from fastsam_batch.embed_queue import MASKS_TOGETHER, WAITING_BATCHES, EmbedQueue
from fastsam_batch.masks.rle import Rle
from fastsam_batch.stages import Stages
from fastsam_batch.threads import threads_for


class Slow:
    """An embedder that is slower than crops are made, and knows how many of them wait. A crop's vector is an angle."""

    dim, batch_size, device = 2, 4, torch.device("cpu")

    def __init__(self):
        self.waiting = self.most = 0
        self.lock = threading.Lock()

    def crop_source(self, image):
        return [image]

    def crops_of(self, source, rles, bboxes_xywh, mode):
        for box in bboxes_xywh:
            with self.lock:
                self.waiting += 1
                self.most = max(self.most, self.waiting)
            yield [np.full((1, 1, 3), box[0], np.uint8)]

    def embed_crops(self, crops):
        time.sleep(0.002)
        with self.lock:
            self.waiting -= len(crops)
        angles = np.stack(crops)[:, 0, 0, 0] / 255
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


@pytest.mark.parametrize(("device", "workers"), [("cpu", 1), ("cpu", 2), ("cuda", 1), ("cuda", 3)])
def test_crops_do_not_pile_up_and_none_is_lost_or_moved(device, workers):
    count = 250
    columns = MaskColumns.found(
        scores=np.ones(count, np.float32),
        stability=np.ones(count, np.float32),
        areas=np.full(count, 1000),
        bboxes_xywh=np.tile(np.arange(count, dtype=np.float32)[:, None], 4),
        rles=[Rle((2, 2), "")] * count,
    )
    embedder = Slow()
    with threads_for(device, workers) as threads:
        queue = EmbedQueue(embedder, Stages(), threads, crop="masked", min_area=100)
        found = queue.add(np.zeros((2, 2, 3), np.uint8), columns)
        (result,) = queue.finish([ImageResult("a", "a", masks=found)])
    angles = np.arctan2(result.masks.embeddings[:, 1], result.masks.embeddings[:, 0])
    assert np.abs(angles - np.arange(count) / 255).max() < 1e-5
    # Those that wait, one for each worker that it may just have ended, the one being filled, and what is made ahead.
    most = (WAITING_BATCHES + workers + 1) * embedder.batch_size + (threads.ahead + 1) * MASKS_TOGETHER
    assert embedder.most <= most
