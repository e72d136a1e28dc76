"""One unit through the models, without Ray or storage."""

from __future__ import annotations

import gc
import io
import threading
import time

import numpy as np
import pytest
from photographs import photographs
from PIL import Image
from pycocotools import mask as coco_mask

from fastsam_batch.isolate import IsolatedDecoder
from fastsam_batch.mask_queue import MaskQueue
from fastsam_batch.models.pair import load_models
from fastsam_batch.sources.base import EncodedImage, UnitBytes
from fastsam_batch.stages import Stages
from fastsam_batch.threads import threads_for
from fastsam_batch.unit import UnitOptions, process_unit


@pytest.fixture(scope="module")
def models():
    return load_models({"path": "builtin", "batch_size": 2}, {"name": "builtin", "batch_size": 8}, "cpu", None)


def encoded(name, data=None):
    if data is None:
        buffer = io.BytesIO()
        Image.fromarray(photographs()[name]).save(buffer, "PNG")
        data = buffer.getvalue()
    return EncodedImage(f"{name}.png", f"/x/{name}.png", data)


def unit(*images):
    return UnitBytes("files-000000000", "", False, images)


MISSING = EncodedImage("gone.jpg", "/x/gone.jpg", None, "missing", "no such file")
NOT_AN_IMAGE = encoded("text", b"hello")


def test_failures_are_rows_in_their_places(models):
    result = process_unit(unit(encoded("coffee"), MISSING, NOT_AN_IMAGE, encoded("rocket")), *models, UnitOptions())
    images = result.images.to_pylist()
    assert [row["status"] for row in images] == ["ok", "failed", "failed", "ok"]
    assert [row["error_kind"] for row in images] == [None, "missing", "not_an_image", None]
    assert [row["sha256"] is None for row in images] == [False, True, False, False]
    assert (images[0]["width"], images[0]["height"]) == (600, 400)
    assert images[0]["n_masks"] + images[3]["n_masks"] == result.masks.num_rows
    assert set(result.masks["image_id"].to_pylist()) == {"coffee.png", "rocket.png"}


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_image_s_result_does_not_depend_on_its_companions(models, batch_size):
    names = ["chelsea", "coffee", "rocket"]
    segmenter, embedder = load_models({"path": "builtin", "batch_size": batch_size}, None, "cpu", None)[0], models[1]
    together = process_unit(unit(*map(encoded, names)), segmenter, embedder, UnitOptions()).masks.to_pylist()
    for name in names:
        alone = process_unit(unit(encoded(name)), segmenter, embedder, UnitOptions()).masks.to_pylist()
        others = [row for row in together if row["image_id"] == f"{name}.png"]
        if batch_size == 1:  # as on a CPU
            assert [row["rle"] for row in alone] == [row["rle"] for row in others]
        for a, b in zip(alone, others, strict=True):
            # Companions of its shape share its batch of two: a rounding by 2e-6 can turn a pixel at the threshold.
            assert coco_mask.iou([a["rle"]], [b["rle"]], [0])[0, 0] > 0.9999
            assert abs(a["score"] - b["score"]) < 1e-5
            assert (a["embedding"] is None) == (b["embedding"] is None)
            if a["embedding"] is not None:
                assert np.dot(np.float32(a["embedding"]), np.float32(b["embedding"])) > 0.999


def test_isolated_decoding_gives_the_same_tables(models):
    images = unit(encoded("coffee"), NOT_AN_IMAGE, MISSING)
    plain = process_unit(images, *models, UnitOptions())
    isolated = process_unit(images, *models, UnitOptions(), isolated=True)
    assert plain.images.equals(isolated.images) and plain.masks.equals(isolated.masks)


def test_small_masks_have_no_embedding(models):
    middle = int(np.median(process_unit(unit(encoded("coffee")), *models, UnitOptions()).masks["area"]))
    masks = process_unit(unit(encoded("coffee")), *models, UnitOptions(min_area=middle)).masks.to_pylist()
    assert {row["area"] >= middle for row in masks} == {True, False}
    assert all((row["embedding"] is not None) == (row["area"] >= middle) for row in masks)


@pytest.mark.parametrize("crop", ["masked", "context", "both"])
def test_crop_modes_differ(models, crop):
    masks = process_unit(unit(encoded("coffee")), *models, UnitOptions(crop=crop)).masks
    vectors = np.stack([np.float32(v) for v in masks["embedding"].to_pylist() if v is not None])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    both = process_unit(unit(encoded("coffee")), *models, UnitOptions(crop="both")).masks
    same = np.allclose(vectors[0], np.float32(both["embedding"][0].as_py()), atol=1e-3)
    assert same == (crop == "both")


def test_without_images(models):
    result = process_unit(unit(), *models, UnitOptions())
    assert result.images.num_rows == 0 and result.masks.num_rows == 0


def test_twenty_megapixels_with_three_hundred_masks_stay_in_memory_bounds(tmp_path):
    """Peak memory above the loaded models, in a process of its own."""
    import json
    import subprocess
    import sys

    script = """
import io, json, resource, sys
import numpy as np
from PIL import Image
from fastsam_batch.models.pair import load_models
from fastsam_batch.sources.base import EncodedImage, UnitBytes
from fastsam_batch.unit import UnitOptions, process_unit
sys.path.insert(0, sys.argv[1])
from photographs import photographs
def unit(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return UnitBytes("u-0", "", False, (EncodedImage("a", "a", buffer.getvalue()),))
models = load_models({"path": "builtin", "conf": 1e-4, "iou": 0.97, "max_masks": 300}, {"name": "builtin"}, "cpu", None)
photo = Image.fromarray(photographs()["coffee"])
process_unit(unit(photo), *models, UnitOptions())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
big = unit(photo.resize((5478, 3652)))
peak = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
result = process_unit(big, *models, UnitOptions())
print(json.dumps({"masks": result.masks.num_rows, "grown": (peak() - before) * 1024}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(__import__("pathlib").Path(__file__).parent)],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["masks"] >= 250
    assert found["grown"] < 1.5 * 2**30, f"{found['grown'] / 2**30:.2f} GiB"


def test_pooling_changes_only_large_masks_of_full_images(models):
    segmenter, _ = load_models({"path": "builtin", "conf": 0.02, "iou": 0.9}, None, "cpu", None)
    _, embedder = load_models({"path": "builtin"}, {"name": "builtin", "mode": "pool"}, "cpu", None)
    images = unit(encoded("coffee"), encoded("china"))
    plain = process_unit(images, segmenter, embedder, UnitOptions()).masks
    pooled = process_unit(images, segmenter, embedder, UnitOptions(embedding_mode="pool")).masks
    assert plain.drop_columns("embedding").equals(pooled.drop_columns("embedding"))
    pairs = list(zip(plain["embedding"].to_pylist(), pooled["embedding"].to_pylist(), strict=True))
    assert all((a is None) == (b is None) for a, b in pairs)
    same = np.array([np.dot(np.float32(a), np.float32(b)) > 0.999 for a, b in pairs if a is not None])
    areas = np.array(plain["area"].to_pylist())[[a is not None for a, _ in pairs]]
    assert same.any() and not same.all() and areas[same].mean() < areas[~same].mean()
    alone = process_unit(unit(encoded("china")), segmenter, embedder, UnitOptions(embedding_mode="pool")).masks
    here = pooled.filter([name == "china.png" for name in pooled["image_id"].to_pylist()])
    for a, b in zip(alone["embedding"].to_pylist(), here["embedding"].to_pylist(), strict=True):
        assert (a is None) == (b is None) and (a is None or np.dot(np.float32(a), np.float32(b)) > 0.999)


def equal_but_for_rounding(a, b):
    assert a.images.equals(b.images)
    rounded = ["score", "stability", "embedding"]
    assert a.masks.drop_columns(rounded).equals(b.masks.drop_columns(rounded))
    for x, y in zip(a.masks.to_pylist(), b.masks.to_pylist(), strict=True):
        assert abs(x["score"] - y["score"]) < 1e-5
        assert (x["embedding"] is None) == (y["embedding"] is None)
        assert x["embedding"] is None or np.dot(np.float32(x["embedding"]), np.float32(y["embedding"])) > 0.999


def test_workers_change_nothing_but_rounding(models):
    images = unit(*map(encoded, ("coffee", "rocket")), NOT_AN_IMAGE)
    a, b = (process_unit(images, *models, UnitOptions(), workers=workers) for workers in (1, 3))
    equal_but_for_rounding(a, b)


def test_a_gpu_s_threads_and_batches_change_nothing_but_rounding(models, monkeypatch):
    """What a GPU is given (full batches on one thread, masks and crops in others), with a CPU in its place."""
    names = ["coffee", "rocket", "china", "chelsea", "coffee"]
    images = unit(*map(encoded, names), NOT_AN_IMAGE)
    alone = process_unit(images, *models, UnitOptions())
    segmenter = load_models({"path": "builtin", "batch_size": 2}, None, "cpu", None)[0]
    monkeypatch.setattr(
        "fastsam_batch.unit.threads_for", lambda device, workers, of_device: threads_for("cuda", workers, of_device)
    )
    together = process_unit(images, segmenter, models[1], UnitOptions(), workers=3)
    equal_but_for_rounding(alone, together)


def test_a_device_that_is_faster_than_the_masks_waits_for_them():
    """Detections hold their prototypes: no more of them wait than the queue has room for."""

    class Fast:
        batch_size = 2
        waiting = most = 0
        lock = threading.Lock()

        def views(self, image):
            return [image]

        def together(self, images, found, timed):
            return found

        def prepare(self, view):
            return view

        def detect_prepared(self, views):
            with self.lock:
                self.waiting += len(views)
                self.most = max(self.most, self.waiting)
            return list(views)

        def masks(self, detections):
            time.sleep(0.003)
            with self.lock:
                self.waiting -= 1
            return detections

    segmenter = Fast()
    with threads_for("cuda", 2) as threads:
        queue = MaskQueue(segmenter, Stages(), threads)
        for number in range(60):
            queue.put(number)
        assert [queue.get() for _ in range(60)] == list(range(60))
    assert segmenter.waiting == 0
    assert segmenter.most <= 3 * queue.together


@pytest.mark.parametrize("workers", [1, 2])
def test_a_unit_that_fails_leaves_no_child_behind(models, monkeypatch, workers):
    children = []
    decode = IsolatedDecoder.decode

    def noted(self, *arguments):
        pixels = decode(self, *arguments)
        children.append(self._child)
        return pixels

    def fail(*_):
        raise MemoryError("a model's")

    monkeypatch.setattr(IsolatedDecoder, "decode", noted)
    monkeypatch.setattr(models[1], "embed_crops", fail)
    gc.disable()  # what is collected sooner or later is not left to that
    try:
        with pytest.raises(MemoryError):
            process_unit(
                unit(encoded("coffee"), encoded("rocket")), *models, UnitOptions(), isolated=True, workers=workers
            )
        assert children and all(child.returncode is not None for child in children)
    finally:
        gc.enable()
