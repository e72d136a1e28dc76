"""One image of a corpus in Python: prompts by name, pixels, pictures."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from corpus.builtin_corpus import as_if_builtin
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


def test_prompts_of_numpy(made_once: MadeCorpus) -> None:
    """A detector's boxes are arrays; what is written of them is JSON all the same."""
    image = Corpus.open(made_once.uri).image(IMAGE)
    boxes = np.array([[40, 50, 200, 210], [1, 1, 60, 70]], np.float32)
    found = image.select(boxes=boxes, foreground=np.array([[100, 120]]), background=np.array([[5.5, 6]]))
    plain = image.select(boxes=boxes.tolist(), foreground=[(100, 120)], background=[(5.5, 6)])
    assert json.dumps(found.to_json()) == json.dumps(plain.to_json())
    assert json.dumps(image.box(*boxes[0]).to_json()) == json.dumps(image.box(40.0, 50.0, 200.0, 210.0).to_json())


def test_a_selection_is_shown_without_its_runs(made_once: MadeCorpus) -> None:
    found = Corpus.open(made_once.uri).image(IMAGE).box(40, 50, 200, 210)
    assert f"mask_indices={found.mask_indices}" in repr(found) and f"area={found.area}" in repr(found)
    assert found.rle.counts not in repr(found)


def test_what_selects_nothing_is_told_without_the_command_s_options(made_once: MadeCorpus) -> None:
    with pytest.raises(InputError, match="there is nothing to select by; name a point, a box or a text"):
        Corpus.open(made_once.uri).image(IMAGE).select(background=[(1, 1)])


@pytest.mark.parametrize(
    "prompts",
    [
        {"foreground": (1, 2)},
        {"foreground": [(1, 2, 3)]},
        {"foreground": [("1", "2")]},
        {"background": [(1,)], "foreground": [(1, 2)]},
        {"boxes": (1, 2, 3, 4)},
        {"boxes": [(1, 2, 3)]},
        {"boxes": "1,2,3,4"},
    ],
)
def test_prompts_of_another_form_are_no_broken_mask(made_once: MadeCorpus, prompts: dict[str, object]) -> None:
    image = Corpus.open(made_once.uri).image(IMAGE)
    name = next(iter(prompts))
    with pytest.raises(InputError, match=f"^{name} .*: give a list of "):
        image.select(**prompts)


def test_searches_from_many_threads_load_one_encoder(tmp_path: Path) -> None:
    corpus = Corpus.open(as_if_builtin(str(tmp_path / "corpus"), tmp_path).uri)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: corpus.search("a cup", top_k=3), range(8)))
    assert all(hits == found[0] for hits in found)
    assert corpus.text_encoder() is corpus.text_encoder()
    again = pickle.loads(pickle.dumps(corpus))
    assert again.search("a cup", top_k=3) == found[0]
