"""Tiles through the models and the job: what they find in a large photograph, and what must not change."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from photographs import photographs, write_photographs
from PIL import Image
from pycocotools import mask as coco_mask

from fastsam_batch.config import segment_options
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.errors import InputError
from fastsam_batch.models.pair import load_models
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter
from fastsam_batch.run import segment_corpus
from fastsam_batch.sources.base import EncodedImage, UnitBytes
from fastsam_batch.unit import UnitOptions, process_unit

BUILTIN = find_segmenter("builtin").main
SEEN = 0.15  # score from which a mask of a photograph by itself counts as a thing


def mosaic():
    """Six photographs side by side, uint8 [1024, 1920, 3], and where each lies: name to (x, y)."""
    width, height = 640, 512
    canvas = np.full((2 * height, 3 * width, 3), 114, np.uint8)
    places = {}
    for number, (name, pixels) in enumerate(photographs().items()):
        part = pixels[:height, :width]
        y, x = number // 3 * height, number % 3 * width
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
        places[name] = x, y
    return canvas, places


@pytest.fixture(scope="module")
def things():
    """Masks of the mosaic's photographs, each seen by itself, as COCO RLE in the mosaic."""
    canvas, places = mosaic()
    alone = Segmenter(BUILTIN)
    found = []
    for name, (x, y) in places.items():
        segmentation = alone.segment([photographs()[name][:512, :640]])[0]
        for rle in (r for r, score in zip(segmentation.rles, segmentation.scores, strict=True) if score >= SEEN):
            frame = np.zeros(canvas.shape[:2], np.uint8)
            pixels = coco_mask.decode(rle.to_coco())
            frame[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
            found.append(coco_mask.encode(np.asfortranarray(frame)))
    return found


def recall(segmentation, things):
    ious = coco_mask.iou([rle.to_coco() for rle in segmentation.rles], things, [0] * len(things))
    return float((np.asarray(ious).max(0) >= 0.5).mean())


def equal(a, b):
    assert [rle.counts for rle in a.rles] == [rle.counts for rle in b.rles]
    for name in ("scores", "bboxes_xywh", "areas", "stability"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_small_things_of_a_large_photograph_are_found(things):
    canvas, _ = mosaic()
    without = recall(Segmenter(BUILTIN).segment([canvas])[0], things)
    tiled = Segmenter(BUILTIN, tile=640, overlap=160).segment([canvas])[0]
    assert len(things) >= 15
    assert recall(tiled, things) >= 0.75 and without <= recall(tiled, things) - 0.25
    assert tiled.image_hw == canvas.shape[:2]
    assert (np.diff(tiled.scores) <= 0).all()
    for rle, area, bbox in zip(tiled.rles, tiled.areas, tiled.bboxes_xywh, strict=True):
        assert rle.size == canvas.shape[:2]
        assert coco_mask.area(rle.to_coco()) == area
        assert coco_mask.toBbox(rle.to_coco()).tolist() == bbox.tolist()


def test_no_more_masks_than_asked_for():
    image = mosaic()[0][:512, :1000]
    every = Segmenter(BUILTIN, tile=640).segment([image])[0]
    few = Segmenter(BUILTIN, tile=640, max_masks=5).segment([image])[0]
    assert len(few.rles) == 5 < len(every.rles)
    assert few.scores[0] == every.scores[0]


def test_an_image_that_fits_into_a_tile_is_as_without_tiles():
    images = list(photographs().values())
    tile = max(max(image.shape[:2]) for image in images)
    plain, tiled = Segmenter(BUILTIN), Segmenter(BUILTIN, tile=tile, overlap=tile // 2)
    for a, b in zip(plain.segment(images), tiled.segment(images), strict=True):
        equal(a, b)


def test_a_batch_of_tiles_equals_single_tiles():
    images = [photographs()["coffee"], mosaic()[0][:420, 300:900], photographs()["chelsea"]]
    single, batched = (Segmenter(BUILTIN, tile=420, overlap=100, batch_size=size) for size in (1, 3))
    for a, b in zip(single.segment(images), batched.segment(images), strict=True):
        assert len(a.rles) == len(b.rles) > 0
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
        pairs = zip(a.rles, b.rles, strict=True)
        assert min(float(coco_mask.iou([x.to_coco()], [y.to_coco()], [0])[0, 0]) for x, y in pairs) > 0.999


def unit(*images, **options):
    """PNG bytes of pixels; `exif` as Pillow saves it."""
    encoded = []
    for number, pixels in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", **options)
        encoded.append(EncodedImage(f"{number}.png", f"/x/{number}.png", buffer.getvalue()))
    return UnitBytes("files-000000000", "", False, tuple(encoded))


@pytest.mark.parametrize("mode", ["crop", "pool"])
def test_threads_change_nothing_but_rounding(mode):
    tiled = {"path": "builtin", "tile": 420, "overlap": 105, "batch_size": 2}
    models = load_models(tiled, {"name": "builtin", "mode": mode}, "cpu", None)
    options = UnitOptions(embedding_mode=mode, min_area=4000, crop="masked")
    images = unit(mosaic()[0][:420, 300:900], photographs()["chelsea"][:200, :200])
    a, b = (process_unit(images, *models, options, workers=workers) for workers in (1, 3))
    assert a.images.equals(b.images)
    rounded = ["score", "stability", "embedding"]
    assert a.masks.drop_columns(rounded).equals(b.masks.drop_columns(rounded))
    assert {"detect", "masks", "merge"} <= set(a.stages)
    vectors = [vector for vector in a.masks["embedding"].to_pylist() if vector is not None]
    assert len(vectors) >= 5


def test_tiles_lie_in_the_photograph_as_it_is_seen():
    upright = np.ascontiguousarray(mosaic()[0][:420, 300:900])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    models = load_models({"path": "builtin", "tile": 420, "overlap": 105}, None, "cpu", None)
    turned = process_unit(unit(np.ascontiguousarray(np.rot90(upright)), exif=exif), *models, UnitOptions())
    plain = process_unit(unit(upright), *models, UnitOptions())
    assert turned.masks.num_rows >= 5
    assert turned.masks.equals(plain.masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 63}, "--tile 63: give 64 or more"),
        ({"overlap": 10}, "--overlap 10: there are no tiles without --tile"),
        ({"tile": 100, "overlap": 51}, "--overlap 51: give at most half of --tile 100"),
        ({"tile": 100, "overlap": -1}, "--overlap -1: give 0 or more"),
    ],
)
def test_tiles_that_cannot_be(options, message):
    with pytest.raises(InputError) as refused:
        segment_options({"input": "x", "output": "y", **options})
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_the_job_with_tiles(local_ray, tmp_path: Path):
    write_photographs(tmp_path / "photos", ["coffee", "chelsea"])
    given = {"input": str(tmp_path / "photos"), "output": str(tmp_path / "corpus"), "tile": 400}
    summary = segment_corpus(segment_options(given))
    assert (summary["images"], summary["failed"]) == (2, 0) and "merge" in summary["stages"]
    corpus = Corpus.open(given["output"])
    assert (corpus.info["options"]["tile"], corpus.info["options"]["overlap"]) == (400, 100)
    assert verify_corpus(given["output"]).ok
    expected = Segmenter(BUILTIN, tile=400, overlap=100).segment([photographs()["coffee"]])[0]
    stored = [row for row in corpus.masks().to_pylist() if row["image_id"].endswith("coffee.png")]
    assert [row["rle"]["counts"] for row in stored] == [rle.counts for rle in expected.rles]

    assert segment_corpus(segment_options({**given, "overlap": 100}))["skipped_units"] == 1  # what it is anyway
    with pytest.raises(InputError, match="--overlap was 100, is 0"):
        segment_corpus(segment_options({**given, "overlap": 0}))
    with pytest.raises(InputError, match="--tile was 400, is not given"):
        segment_corpus(segment_options({**given, "tile": None}))
