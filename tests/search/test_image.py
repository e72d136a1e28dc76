"""One image of a corpus in Python: prompts by name, pixels, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus.made_corpus import MadeCorpus
from PIL import Image
from pycocotools import mask as coco
from reference.select import select_box, select_points

from fastsam_batch import Corpus
from fastsam_batch.errors import InputError

IMAGE = "astronaut.png"


def dense(made: MadeCorpus) -> np.ndarray:
    return np.stack([coco.decode(row["rle"]) for row in made.masks if row["image_id"] == IMAGE]).astype(bool)


def test_points_and_boxes_answer_as_the_reference(made_once: MadeCorpus) -> None:
    image, masks = Corpus.open(made_once.uri).image(IMAGE), dense(made_once)
    y, x = np.argwhere(masks[0])[masks[0].sum() // 2].tolist()
    union, added = select_points(masks, [(x, y)], [])
    found = image.point(x, y)
    assert found.mask_indices == added
    np.testing.assert_array_equal(coco.decode(found.rle.to_coco()), union)
    smallest = min(added, key=lambda mask: masks[mask].sum())
    assert image.point(x, y, smallest=True).mask_indices == [smallest]
    assert image.box(40, 50, 200, 210).boxes[0].mask_index == select_box(masks, (40, 50, 200, 210))[0]
    assert image.select(foreground=[(x, y)], background=[(x, y)]).area == 0
    assert image.size_hw == masks.shape[1:] and str(image).startswith("astronaut.png of ")


def test_pixels_and_drawings(made: MadeCorpus) -> None:
    image = Corpus.open(made.uri).image(IMAGE)
    photograph = np.asarray(Image.open(image.row["uri"]).convert("RGB"))
    np.testing.assert_array_equal(image.pixels(), photograph)
    everything, lit = image.draw(), image.draw(image.box(40, 50, 200, 210))
    assert everything.size == lit.size == (2 * photograph.shape[1], 2 * photograph.shape[0])
    assert np.asarray(lit).mean() < 0.8 * np.asarray(everything).mean()  # all but the mask is dim


def test_a_failed_image_and_a_photograph_that_is_gone(made: MadeCorpus, tmp_path: Path) -> None:
    corpus = Corpus.open(made.uri)
    with pytest.raises(InputError, match=r"'broken\.png' has no masks, for it failed \(not_an_image\)"):
        corpus.image("broken.png").point(1, 1)
    image = corpus.image(IMAGE)
    image.row["uri"] = f"{tmp_path}/gone.png"
    with pytest.raises(InputError, match=r"'astronaut\.png' is no longer at .*gone\.png"):
        image.draw()
