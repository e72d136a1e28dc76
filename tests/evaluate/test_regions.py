"""Region scores against scikit-learn and definitions, prompts against dense masks, folders in three layouts."""

from __future__ import annotations

import argparse
import json
import tracemalloc
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import skimage.measure
from corpus.made_corpus import MadeCorpus, make_corpus
from hypothesis import assume, example, given
from hypothesis import strategies as st
from photographs import write_photographs
from PIL import Image
from pycocotools import mask as coco_mask
from reference.regions import aupro as aupro_by_definition
from reference.select import select_box, select_points
from sklearn.metrics import fbeta_score, jaccard_score, roc_auc_score

from fastsam_batch.cli import job
from fastsam_batch.cli_evaluate import evaluate_options
from fastsam_batch.evaluate.region_scores import aupro, auroc, overlap_scores, pixel_scores, regions_of
from fastsam_batch.evaluate.regions import PromptKind, predict
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.masks.rle import Rle


def test_the_command_takes_every_kind_of_prompt() -> None:
    parser = argparse.ArgumentParser()
    evaluate_options(parser)
    needed = ["regions", "--corpus", "corpus", "--ground-truth", "drawn"]
    kinds = list(get_args(PromptKind))
    assert parser.parse_args([*needed, "--prompt", *kinds]).prompt == kinds


def blobs(seed: int, shape: tuple[int, int] = (40, 60), quantile: float = 0.8) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return smooth >= np.quantile(smooth, quantile)


def coarse(seed: int, shape: tuple[int, int] = (40, 60), levels: int = 12) -> np.ndarray:
    """Scores with many ties, as the highest score of a few masks has them."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random(shape), (0, 0), 4)
    return np.round((noise - noise.min()) / np.ptp(noise) * levels) / levels


@pytest.mark.parametrize("seed", range(4))
def test_overlap_scores_are_scikit_learns(seed):
    truth, found = blobs(seed), blobs(seed + 50)
    scores = overlap_scores(found, truth)
    given = truth.ravel(), found.ravel()
    assert scores["IoU"] == pytest.approx(jaccard_score(*given))
    assert scores["F_beta"] == pytest.approx(fbeta_score(*given, beta=0.3**0.5))
    assert scores["MAE"] == pytest.approx(np.abs(truth.astype(float) - found).mean())


def test_two_empty_masks_agree():
    nothing = np.zeros((4, 5), bool)
    assert overlap_scores(nothing, nothing) == {"IoU": 1, "F_beta": 1, "MAE": 0}
    assert overlap_scores(~nothing, nothing) == {"IoU": 0, "F_beta": 0, "MAE": 1}


@pytest.mark.parametrize("limit", [0.3, 0.05, 1.0])
def test_curves_over_a_set(limit):
    truths = [blobs(1), blobs(2, quantile=0.95), np.zeros((40, 60), bool)]
    scores = [coarse(seed) for seed in (1, 2, 9)]
    counted = [pixel_scores(*pair) for pair in zip(scores, truths, strict=True)]
    flat = [np.concatenate([each.ravel() for each in images]) for images in (truths, scores)]
    assert auroc(counted) == pytest.approx(roc_auc_score(*flat))
    assert aupro(counted, limit) == pytest.approx(aupro_by_definition(scores, truths, limit))


@given(
    cells=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=20, max_size=20), min_size=1, max_size=3
    ),
    limit=st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0]),
)
@example(cells=[[(int(number >= 6), number < 6) for number in range(20)]], limit=1.0)
@example(cells=[[(2 - (number >= 5) - (number >= 15), 5 <= number < 15) for number in range(20)]], limit=0.5)
def test_curves_with_vertical_parts(cells: list[list[tuple[int, bool]]], limit: float) -> None:
    images = [np.array(image, int).reshape(4, 5, 2) for image in cells]
    scores, truths = [image[..., 0] / 3 for image in images], [image[..., 1].astype(bool) for image in images]
    counted = [pixel_scores(*pair) for pair in zip(scores, truths, strict=True)]
    truth, score = (np.concatenate([each.ravel() for each in images]) for images in (truths, scores))
    assume(truth.any() and not truth.all())
    assert auroc(counted) == pytest.approx(roc_auc_score(truth, score))
    assert aupro(counted, limit) == pytest.approx(aupro_by_definition(scores, truths, limit))


def test_curves_without_a_region_or_without_anything_else():
    nothing = pixel_scores(coarse(1), np.zeros((40, 60), bool))
    everything = pixel_scores(coarse(1), np.ones((40, 60), bool))
    assert auroc([nothing]) is aupro([nothing]) is auroc([everything]) is aupro([everything]) is None


def test_regions_are_as_large_as_their_boxes():
    truth = blobs(5, (300, 500), 0.7)
    whole = np.zeros(truth.shape, int)
    regions = list(regions_of(truth))
    for number, region in enumerate(regions, start=1):
        height, width = region.mask.shape
        assert region.mask.any(0)[[0, -1]].all() and region.mask.any(1)[[0, -1]].all()
        whole[region.y : region.y + height, region.x : region.x + width] += number * region.mask
    assert len(regions) > 20
    np.testing.assert_array_equal(whole > 0, truth)
    expected = skimage.measure.label(truth, connectivity=2)
    assert len(np.unique(np.stack([whole, expected])[:, truth], axis=1).T) == len(regions) == expected.max()


def dense(made: MadeCorpus, name: str) -> np.ndarray:
    return np.stack([coco_mask.decode(row["rle"]) for row in made.masks if row["image_id"] == name]).astype(bool)


def draw(folder: Path, name: str, mask: np.ndarray, high: int = 255) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * np.uint8(high)).save(path)


def run(capsys, corpus: str, truths: Path, *arguments: str) -> dict:
    given = ["regions", "--corpus", corpus, "--ground-truth", str(truths), *arguments]
    assert job("evaluate", given) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("high", [255, 1])
def test_prompts_choose_as_dense_masks_do(made_once, tmp_path, capsys, high):
    expected: dict[str, list[float]] = {"everything": [], "point": [], "box": []}
    for name in ("astronaut.png", "coffee.png"):
        masks = dense(made_once, name)
        truth = np.roll(masks[0] | masks[4], 5, axis=1)
        draw(tmp_path / "truth", name, truth, high)
        labels = skimage.measure.label(truth, connectivity=2)
        choices: dict[str, set[int]] = {kind: set() for kind in expected}
        points = []
        for label in range(1, labels.max() + 1):
            region = labels == label
            ious = (masks & region).sum((1, 2)) / (masks | region).sum((1, 2))
            choices["everything"].add(int(ious.argmax()))
            y, x = np.nonzero(region)
            choices["box"].add(select_box(masks, (x.min(), y.min(), x.max() + 1, y.max() + 1))[0])
            depth = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            y, x = np.unravel_index(depth[1:-1, 1:-1].argmax(), region.shape)
            points.append((int(x), int(y)))
        _, added = select_points(masks, points, [])
        choices["point"] = set(added)
        for kind, chosen in choices.items():
            union = masks[sorted(chosen)].any(0)
            expected[kind].append(jaccard_score(truth.ravel(), union.ravel()))
    figures = run(capsys, made_once.uri, tmp_path / "truth")["figures"]
    assert list(figures) == list(get_args(PromptKind))
    for kind, ious in expected.items():
        assert figures[kind]["IoU"] == pytest.approx(np.mean(ious))
        assert 0.5 < figures[kind]["AUROC"] <= 1
    # The best choice is no worse than one by a prompt, up to how regions share masks.
    assert figures["everything"]["IoU"] >= figures["box"]["IoU"] - 0.05


def test_a_stored_mask_as_truth_is_found(made_once, tmp_path, capsys):
    draw(tmp_path / "truth", "coffee.png", dense(made_once, "coffee.png")[2])
    draw(tmp_path / "truth", "tea.png", np.ones((3, 3), bool))
    out = str(tmp_path / "out")
    prompts = ["--prompt", "everything", "box", "--output", out]
    summary = run(capsys, made_once.uri, tmp_path / "truth", *prompts)
    figures = summary["figures"]
    assert (summary["images"], summary["not_in_corpus"]) == (1, 1)
    perfect = {"IoU": 1, "F_beta": 1, "MAE": 0, "AUROC": 1, "AUPRO": 1}
    assert figures["everything"] == pytest.approx(perfect, abs=1e-12)
    text = (tmp_path / "out" / "regions.md").read_text()
    assert "| everything | 1.000 | 1.000 | 0.000 | 1.000 | 1.000 |" in text
    assert "Drawn masks left out, for the corpus lacks their photographs: 1." in text
    assert min(Image.open(tmp_path / "out" / "regions.png").size) > 400


def test_scores_cost_what_their_masks_cover() -> None:
    side = 1000
    truth = np.zeros((side, side), bool)
    truth[:40, :40] = truth[-40:, -40:] = True
    masks = []
    for index, corner in enumerate((0, side - 40)):
        mask = np.zeros((side, side), np.uint8, order="F")
        mask[corner : corner + 40, corner : corner + 40] = 1
        rle = Rle((side, side), coco_mask.encode(mask)["counts"].decode())
        masks.append(ExportMask(index, (corner, corner, 40, 40), 1600, 0.5 + 0.25 * index, 1.0, rle))
    image = ExportImage("a.png", "a.png", side, side, tuple(masks))
    tracemalloc.start()
    predicted, scores = predict(image, truth, "box", smallest=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(predicted, truth)
    assert np.unique(scores).tolist() == [0, 0.5, 0.75] and scores[-1, -1] == 0.75
    assert peak < 12 * side * side  # the scores themselves are 8 bytes a pixel


def test_mvtecs_layout(tmp_path, capsys):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    made = make_corpus(str(tmp_path / "corpus"), photographs)
    # The same corpus with the ids that MVTec's folders give.
    renamed = {"astronaut.png": "bottle/test/broken/000.png", "coffee.png": "bottle/test/good/000.png"}
    renamed |= {"chelsea.png": "bottle/train/good/000.png", "rocket.png": "bottle/validation/good/000.png"}
    renamed |= {"coins.png": "cable/test/good/000.png"}  # another category, in the same corpus
    rename(made, renamed)
    draw(tmp_path / "ground_truth", "broken/000_mask.png", dense(made, "bottle/test/broken/000.png")[1])
    summary = run(capsys, made.uri, tmp_path / "ground_truth", "--prompt", "everything")
    assert (summary["images"], summary["images_without_region"]) == (2, 1)
    assert summary["figures"]["everything"]["IoU"] == 1


def rename(made: MadeCorpus, names: dict[str, str]) -> None:
    from corpus.made_corpus import write_unit

    for row in made.images + made.masks:
        row["image_id"] = names.get(row["image_id"], row["image_id"])
    for unit in sorted({row["unit_id"] for row in made.images}):
        images = [row for row in made.images if row["unit_id"] == unit]
        ids = {row["image_id"] for row in images}
        write_unit(made.uri, unit, images, [row for row in made.masks if row["image_id"] in ids])


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("colour", [(255, 255, 255), (128, 0, 0)])
def test_masks_of_two_colours_are_masks(made_once, tmp_path, capsys, colour, ending):
    """As drawn in colour, as a palette, and as JPEG leaves a white one."""
    mask = dense(made_once, "coffee.png")[2]
    pixels = (mask[..., None] * np.array(colour)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    (tmp_path / "truth").mkdir()
    picture.save(tmp_path / "truth" / f"coffee.{ending}", quality=90)
    figures = run(capsys, made_once.uri, tmp_path / "truth", "--prompt", "everything")["figures"]
    assert figures["everything"]["IoU"] > 0.98


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda t: None, "no such folder"),
        (lambda t: t.mkdir(), "holds no picture"),
        (lambda t: draw(t, "other.png", np.ones((5, 5), bool)), "holds no photograph"),
        (lambda t: draw(t, "coffee.png", np.ones((5, 5), bool)), "is 5 x 5 pixels and coffee.png is"),
        (lambda t: (t.mkdir(), (t / "coffee.png").write_bytes(b"no")), "not a picture"),
        (lambda t: write_photographs(t, ["coffee"]), "coffee.png: is a photograph, not a drawn mask"),
        (
            lambda t: [draw(t, name, np.ones((5, 5), bool)) for name in ("a.png", "a_mask.png")],
            "a.png and a_mask.png are both masks of a",
        ),
    ],
)
def test_wrong_folders_are_a_sentence(made_once, tmp_path, capsys, prepare, reason):
    prepare(tmp_path / "truth")
    given = ["regions", "--corpus", made_once.uri, "--ground-truth", str(tmp_path / "truth")]
    assert job("evaluate", given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and reason in said
