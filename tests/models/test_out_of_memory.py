"""A batch that does not fit is halved, and nothing of the failed attempt takes memory meanwhile."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from pycocotools import mask as coco_mask

from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.memory import out_of_memory
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter

OF_ONNX = "[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 4096"


class Small:
    """Memory for `holds` images: takes a tensor for each batch, and notes whether one of a failed batch is alive."""

    def __init__(self, holds: int, error: type[Exception] = torch.cuda.OutOfMemoryError) -> None:
        self.holds = holds
        self.error = error
        self.tried: list[int] = []
        self.alive: list[bool] = []
        self._taken: list[weakref.ref[torch.Tensor]] = []

    def take(self, pixels: torch.Tensor) -> None:
        self.alive.append(any(ref() is not None for ref in self._taken))
        self.tried.append(len(pixels))
        taken = pixels.clone()
        if len(pixels) > self.holds:
            self._taken += [weakref.ref(taken), weakref.ref(pixels)]
            raise self.error("CUDA error: out of memory" if issubclass(self.error, RuntimeError) else OF_ONNX)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, RuntimeError, Fail])
def test_the_segmenter_halves_a_batch(error):
    segmenter = Segmenter(find_segmenter("builtin").main, imgsz=64, batch_size=4)
    memory, forward = Small(1, error), segmenter.network.forward

    def limited(pixels, conf):
        memory.take(pixels)
        return forward(pixels, conf)

    segmenter.network = replace(segmenter.network, forward=limited)
    images = [np.full((64, 64, 3), 60 * shade, np.uint8) for shade in range(4)]
    assert len(segmenter.segment(images)) == 4
    assert memory.tried == [4, 2, 1, 1, 2, 1, 1] and segmenter.oom_retries == 3
    assert not any(memory.alive)
    memory.holds = 0
    with pytest.raises(error, match="memory"):
        segmenter.segment(images[:1])


@pytest.mark.parametrize(
    "said",
    [
        "cuBLAS error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
        "GET was unable to find an engine to execute this computation",
        "FIND was unable to find an engine to execute this computation",
        "Unable to find a valid cuDNN algorithm to run convolution",
    ],
)
def test_libraries_say_it_in_their_own_words(said):
    assert out_of_memory(RuntimeError(said))


def test_another_error_is_no_lack_of_memory():
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    segmenter = Segmenter(find_segmenter("builtin").main, imgsz=64, batch_size=2)

    def broken(pixels, conf):
        raise RuntimeError("CUDA error: device-side assert triggered")

    segmenter.network = replace(segmenter.network, forward=broken)
    with pytest.raises(RuntimeError, match="device-side"):
        segmenter.segment([np.zeros((64, 64, 3), np.uint8)] * 2)
    assert segmenter.oom_retries == 0


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


@pytest.mark.parametrize("fails", [1, 2])
def test_pooling_is_tried_once_more(fails):
    image = skimage.data.coffee()
    whole = coco_mask.encode(np.ones(image.shape[:2], np.uint8, order="F"))
    rles = [Rle(image.shape[:2], whole["counts"].decode("ascii"))] * 60
    given = image, rles, np.full(60, image.size // 3)
    embedder = Embedder("builtin", mode="pool")
    expected, pooled = embedder.pool_masks(*given)
    assert pooled.all()
    dense, tries = embedder._dense, []

    def limited(pixels):
        tries.append(len(pixels))
        if len(tries) <= fails:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return dense.places(pixels)

    embedder._dense = replace(dense, places=limited)
    if fails == 2:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            embedder.pool_masks(*given)
    else:
        assert np.array_equal(embedder.pool_masks(*given)[0], expected)
    assert embedder.oom_retries == 1 and len(tries) == 2
