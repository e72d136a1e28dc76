"""A batch that does not fit is halved, and nothing of the failed attempt takes memory meanwhile."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter


class Small:
    """Memory for `holds` images: takes a tensor for each batch, and notes whether one of a failed batch is alive."""

    def __init__(self, holds: int) -> None:
        self.holds = holds
        self.tried: list[int] = []
        self.alive: list[bool] = []
        self._taken: list[weakref.ref[torch.Tensor]] = []

    def take(self, pixels: torch.Tensor) -> None:
        self.alive.append(any(ref() is not None for ref in self._taken))
        self.tried.append(len(pixels))
        taken = pixels.clone()
        if len(pixels) > self.holds:
            self._taken += [weakref.ref(taken), weakref.ref(pixels)]
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_the_segmenter_halves_a_batch():
    segmenter = Segmenter(find_segmenter("builtin").main, imgsz=64, batch_size=4)
    memory, forward = Small(1), segmenter.network.forward

    def limited(pixels):
        memory.take(pixels)
        return forward(pixels)

    segmenter.network = replace(segmenter.network, forward=limited)
    images = [np.full((64, 64, 3), 60 * shade, np.uint8) for shade in range(4)]
    assert len(segmenter.segment(images)) == 4
    assert memory.tried == [4, 2, 1, 1, 2, 1, 1] and segmenter.oom_retries == 3
    assert not any(memory.alive)
    memory.holds = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        segmenter.segment(images[:1])


def test_the_embedder_halves_a_batch(monkeypatch):
    embedder = Embedder("builtin")
    memory, encode = Small(1), embedder._model.encode_image

    def limited(pixels):
        memory.take(pixels)
        return encode(pixels)

    monkeypatch.setattr(embedder._model, "encode_image", limited)
    crops = np.random.default_rng(0).integers(0, 255, (3, embedder.image_size, embedder.image_size, 3), np.uint8)
    vectors = embedder.embed_crops(crops)
    assert memory.tried == [3, 1, 2, 1, 1] and embedder.oom_retries == 2
    assert not any(memory.alive)
    np.testing.assert_allclose(vectors[1], embedder.embed_crops(crops[1:2])[0], atol=1e-5)
