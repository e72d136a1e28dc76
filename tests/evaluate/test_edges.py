"""The boundary benchmark from files to figures."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import skimage.morphology
import torch
from evaluate.made_edges import drawn_boundaries, soft_edges, write_truth
from photographs import photographs, write_photographs
from PIL import Image
from reference.edges import best_f, pairs_at_most
from reference.masks import dense_masks

from fastsam_batch.cli import job
from fastsam_batch.errors import InputError
from fastsam_batch.evaluate.edge_files import read_edge_map
from fastsam_batch.evaluate.edge_model import (
    edge_map,
    images_of,
    outline_gradients,
    suppress_beside_edges,
    write_edge_maps,
)
from fastsam_batch.evaluate.edge_scores import THRESHOLDS, count_edges, summarise_edges
from fastsam_batch.masks.boxes import letterbox_of
from fastsam_batch.models.segmenter import Detections, Segmenter
from fastsam_batch.models.weights import find_segmenter

NAMES = ("coins", "camera", "coffee")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Edge maps of three photographs, one in each form, and what three people drew."""
    maps, truths = tmp_path / "maps", tmp_path / "groundTruth"
    maps.mkdir()
    for name in NAMES:
        write_truth(truths / f"{name}.mat", drawn_boundaries(name))
    cv2.imwrite(str(maps / "coins.png"), np.rint(soft_edges("coins") * 65535).astype(np.uint16))
    np.save(maps / "camera.npy", soft_edges("camera"))
    edges = soft_edges("coffee")
    double = np.zeros((2 * edges.shape[0] + 1, 2 * edges.shape[1] + 1))
    double[2::2, 2::2] = edges
    scipy.io.savemat(maps / "coffee.mat", {"ucm2": double})
    (maps / "notes.txt").write_text("not a map")
    return maps, truths


def run(maps: Path, truths: Path, *arguments: str) -> int:
    return job("evaluate", ["edges", "--edge-maps", str(maps), "--ground-truth", str(truths), *arguments])


def test_the_command_gives_the_figures_of_the_counts(folders, tmp_path, capsys):
    assert run(*folders, "--output", str(tmp_path / "out"), "--workers", "2") == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = summarise_edges([count_edges(n, soft_edges(n), drawn_boundaries(n)) for n in sorted(NAMES)])
    assert [each["image"] for each in summary["per_image"]] == sorted(NAMES)
    for figure in ("ODS", "OIS", "AP", "R50"):
        assert summary[figure] == pytest.approx(expected[figure], abs=0.002)  # a 16-bit picture rounds
    for ours, theirs in zip(summary["per_image"], expected["per_image"], strict=True):
        assert set(ours) == {"image", "threshold", "recall", "precision", "F"}
        assert ours["F"] == pytest.approx(theirs["F"], abs=0.002)
    assert 0.4 < summary["ODS"] <= summary["OIS"] < 1

    table = (tmp_path / "out" / "edges.md").read_text()
    assert f"| {summary['ODS']:.3f} | {summary['OIS']:.3f} | {summary['AP']:.3f} |" in table
    assert "| FastSAM (published) | 0.750 | 0.790 | 0.793 | 0.903 |" in table
    assert min(Image.open(tmp_path / "out" / "edges.png").size) > 400
    document = json.loads((tmp_path / "out" / "edges.json").read_text())
    assert len(document["curve"]["recall"]) == len(THRESHOLDS)


def test_drawings_without_a_map_are_told(folders, tmp_path, capsys):
    maps, truths = folders
    assert run(maps, truths) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["without_map"] == 0
    for suffix in ("npy", "png"):
        next(maps.glob(f"*.{suffix}")).unlink()
    assert run(maps, truths, "--output", str(tmp_path / "out")) == 0
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-1])["without_map"] == 2
    assert "Left out for want of an edge map: 2 drawings." in (tmp_path / "out" / "edges.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_matchings_made_anew(name):
    edges, people = soft_edges(name), drawn_boundaries(name)
    counts = count_edges(name, edges, people)
    radius = 0.0075 * np.hypot(*edges.shape) * 3  # small pictures: a distance that makes choices
    wide = count_edges(name, edges, people, max_distance=0.0075 * 3)
    for index in (0, 9, 30, 60, 98):
        found = skimage.morphology.thin(edges >= THRESHOLDS[index])
        pairs = [pairs_at_most(found, truth, radius) for truth in people]
        assert counts.found[index] == wide.found[index] == found.sum()
        assert counts.true[index] == sum(truth.sum() for truth in people)
        assert wide.true_matched[index] == sum(pairs)
        assert max(pairs) <= wide.found_matched[index] <= min(sum(pairs), found.sum())
        near = sum(pairs_at_most(found, truth, radius / 3) for truth in people)
        assert counts.true_matched[index] == near


def test_a_person_alone_has_as_many_partners_as_the_map():
    counts = count_edges("coins", soft_edges("coins"), drawn_boundaries("coins", people=1))
    np.testing.assert_array_equal(counts.true_matched, counts.found_matched)


def test_what_a_person_drew_scores_full_marks():
    drawn = [skimage.morphology.thin(each) for each in drawn_boundaries("coins", people=1)]
    summary = summarise_edges([count_edges("coins", drawn[0].astype(np.float64), drawn)])
    assert (summary["ODS"], summary["OIS"], summary["R50"]) == (1, 1, 1)
    assert summary["per_image"][0]["F"] == 1


def test_a_large_picture_takes_memory_for_its_edges():
    truth, edges = np.zeros((1500, 400), bool), np.zeros((1500, 400))
    truth[100::300] = True
    edges[102::300, ::2] = 0.5
    tracemalloc.start()
    counts = count_edges("a", edges, [truth])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.true_matched[0] == counts.found[0] == 5 * 200
    assert peak < 40 << 20


def test_an_empty_map_scores_nothing():
    people = drawn_boundaries("coins")
    summary = summarise_edges([count_edges("coins", np.zeros(people[0].shape), people)])
    assert [summary[figure] for figure in ("ODS", "OIS", "AP", "R50")] == [0, 0, 0, 0]


def test_figures_by_loops():
    counts = [count_edges(name, soft_edges(name), drawn_boundaries(name)) for name in NAMES]
    summary = summarise_edges(counts)
    recall = sum(c.true_matched for c in counts) / sum(c.true for c in counts)
    precision = sum(c.found_matched for c in counts) / sum(c.found for c in counts)
    assert (summary["ODS"], summary["threshold"]) == pytest.approx(best_f(recall, precision, THRESHOLDS))
    chosen = [(c, int(np.argmax([_f(c, i) for i in range(99)]))) for c in counts]
    r = sum(c.true_matched[i] for c, i in chosen) / sum(c.true[i] for c, i in chosen)
    p = sum(c.found_matched[i] for c, i in chosen) / sum(c.found[i] for c, i in chosen)
    assert summary["OIS"] == pytest.approx(2 * p * r / (p + r))
    assert [each["F"] for each in summary["per_image"]] == pytest.approx([_f(c, i) for c, i in chosen])


def _f(counts, index: int) -> float:
    r, p = counts.true_matched[index] / counts.true[index], counts.found_matched[index] / max(counts.found[index], 1)
    return 2 * p * r / (p + r) if p + r else 0.0


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda m, t: np.save(m / "camera.npy", np.full((4, 4), 7.0)), "floats from 0 to 1"),
        (lambda m, t: np.save(m / "camera.npy", np.zeros((4, 5))), "is 5 x 4 pixels, but the segmentations"),
        (lambda m, t: np.save(m / "camera.npy", np.zeros((4, 4, 3))), "height and width only"),
        (lambda m, t: (m / "camera.npy").write_bytes(b"no"), "not a .npy array"),
        (lambda m, t: (m / "coins.png").write_bytes(b"no"), "not a picture"),
        (lambda m, t: (m / "coffee.mat").write_bytes(b"no"), "not a MATLAB file"),
        (lambda m, t: scipy.io.savemat(m / "coffee.mat", {"ucm": np.zeros((3, 3))}), "holds no ucm2"),
        (lambda m, t: np.save(m / "coins.npy", np.zeros((4, 4))), "are maps of one image"),
        (lambda m, t: (t / "camera.mat").unlink(), "holds no camera.mat"),
        (lambda m, t: scipy.io.savemat(t / "camera.mat", {"groundTruth": 3}), "holds no groundTruth cells"),
        (lambda m, t: [each.unlink() for each in t.iterdir()], "holds no .mat file"),
        (lambda m, t: [each.unlink() for each in m.iterdir()], "holds no .png, .npy, .mat file"),
    ],
)
def test_bad_input_is_a_sentence(folders, capsys, break_it, reason):
    break_it(*folders)
    assert run(*folders, "--workers", "1") == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out
    assert reason in said.err


def test_other_ways_to_store_a_map(tmp_path):
    edges = soft_edges("coins")
    np.save(tmp_path / "a.npy", np.rint(edges * 255).astype(np.uint8))
    np.save(tmp_path / "b.npy", edges > 0.5)
    np.testing.assert_allclose(read_edge_map(tmp_path / "a.npy"), edges, atol=0.002)
    np.testing.assert_array_equal(read_edge_map(tmp_path / "b.npy"), edges > 0.5)
    grey = np.rint(edges * 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "c.png"), np.dstack([grey] * 3))
    np.testing.assert_array_equal(read_edge_map(tmp_path / "c.png"), grey / 255)
    np.save(tmp_path / "d.npy", (edges * (1 + 1e-7)).astype(np.float32))
    assert read_edge_map(tmp_path / "d.npy").max() == 1


@pytest.mark.skipif("BSDS500" not in os.environ, reason="BSDS500 names no folder with groundTruth/ and reference/")
def test_the_original_programs_figures(capsys):
    folder = Path(os.environ["BSDS500"])
    assert run(folder / "reference", folder / "groundTruth") == 0
    ours = {each["image"]: each for each in json.loads(capsys.readouterr().out.splitlines()[-1])["per_image"]}
    rows = [line.split() for line in (folder / "reference" / "expected.txt").read_text().splitlines()]
    rows = [row for row in rows if row[0] != "#"]
    assert len(rows) == 8
    for image, threshold, *_, f in rows:
        assert ours[image]["threshold"] == float(threshold)
        assert ours[image]["F"] == pytest.approx(float(f), abs=0.002)


def test_a_models_edges_from_photographs_to_figures(tmp_path, capsys):
    truths, images, maps = tmp_path / "truths", tmp_path / "images", tmp_path / "maps"
    names = ["astronaut", "rocket"]
    write_photographs(images, names)
    for name in names:
        height, width = photographs()[name].shape[:2]
        small = drawn_boundaries(name)[0].astype(np.uint8)
        write_truth(truths / f"{name}.mat", [cv2.resize(small, (width, height)) > 0])
    given = ["--segmenter", "builtin", "--images", str(images), "--ground-truth", str(truths), "--maps", str(maps)]
    assert job("evaluate", ["edges", *given, "--workers", "1", "--conf", "0.1"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["images"], summary["segmenter"], summary["conf"]) == (2, "builtin", 0.1)
    segmenter = Segmenter(find_segmenter("builtin").main, conf=0.1)
    edges = edge_map(segmenter.detect([photographs()["astronaut"]])[0])
    np.testing.assert_allclose(read_edge_map(maps / "astronaut.png"), edges, atol=1e-4)
    assert edges.max() == 1 and run(maps, truths, "--workers", "1") == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["per_image"] == summary["per_image"]


def test_gradients_are_those_of_dense_masks():
    segmenter = Segmenter(find_segmenter("builtin").main, conf=0.05)
    found = segmenter.detect([photographs()["coffee"]])[0]
    slopes = outline_gradients(found)
    expected = np.zeros_like(slopes)
    masks = dense_masks(found.on_host(), found.coefficients, found.boxes_xyxy, found.image_hw)
    for mask in masks:
        expected = np.maximum(expected, cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))))
    assert len(masks) > 2
    away = cv2.dilate(expected, np.ones((5, 5))) == 0
    assert (slopes[away] > 0).mean() < 0.01  # flat logits move an outline by the resizing's rounding
    assert (slopes[expected > 0] > 0).mean() > 0.6


@pytest.mark.parametrize("stride", [32, 640])
def test_edges_lie_on_the_masks_whatever_the_input_is_padded_to(stride):
    """An export of a fixed size pads an image to a whole square."""
    image_hw = 480, 640
    letterbox = letterbox_of(image_hw, 640, stride)
    rows, columns = np.mgrid[: letterbox.input_hw[0] // 4, : letterbox.input_hw[1] // 4] * 4 + 2.0
    prototypes = np.zeros((32, *rows.shape), np.float32)
    prototypes[0] = (60 - np.hypot(rows - (240 + letterbox.top), columns - (320 + letterbox.left))) / 4  # a disc
    coefficients, box = np.eye(1, 32, dtype=np.float32), np.array([[200, 120, 440, 360]], np.float32)
    (mask,) = dense_masks(prototypes, coefficients, box, image_hw)
    found = Detections(image_hw, box, np.ones(1, np.float32), coefficients, torch.from_numpy(prototypes))
    edges = np.argwhere(outline_gradients(found) > 0.05)
    inside = np.argwhere(mask)
    assert abs(edges.min(0) - inside.min(0)).max() <= 3 and abs(edges.max(0) - inside.max(0)).max() <= 3


def test_suppression_leaves_the_crest_of_a_ridge():
    y, x = np.mgrid[:60, :60].astype(np.float32)
    for angle in np.linspace(0, np.pi, 7):
        away = (x - 30) * np.cos(angle) + (y - 30) * np.sin(angle)
        thinned = suppress_beside_edges(np.exp(-(away**2) / 8).astype(np.float32))
        inner = np.hypot(x - 30, y - 30) < 25
        assert (np.abs(away)[inner & (thinned > 0)] <= 1).all()
        assert (thinned[inner & (np.abs(away) < 0.3)] > 0).mean() > 0.9


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "--edge-maps or --segmenter"),
        (["--edge-maps", "x", "--segmenter", "builtin"], "--edge-maps or --segmenter"),
        (["--segmenter", "builtin"], "name their folder with --images"),
        (["--segmenter", "builtin", "--images", "nowhere"], "no such folder"),
        (["--segmenter", "builtin", "--images", "."], "holds no photograph"),
        (["--segmenter", "builtin", "--images", "IMAGES", "--conf", "3"], "conf"),
        (["--edge-maps", "nowhere"], "no such folder"),
    ],
)
def test_what_to_measure_is_named_once(folders, capsys, arguments, reason):
    _, truths = folders
    images = truths.parent / "images"
    for name in NAMES:
        images.mkdir(exist_ok=True)
        cv2.imwrite(str(images / f"{name}.png"), np.zeros((8, 8), np.uint8))
    given = [str(images) if each == "IMAGES" else each for each in arguments]
    assert job("evaluate", ["edges", "--ground-truth", str(truths), *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and reason in said


def test_a_photograph_that_cannot_be_read_is_told_from_the_maps_folder(tmp_path):
    segmenter = Segmenter(find_segmenter("builtin").main, imgsz=64)
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").write_bytes(b"no photograph")
    (tmp_path / "file").touch()
    for path, folder, said in (
        ("a.png", "maps", r"a\.png: cannot be read \(Is a directory\); put the photograph back"),
        ("b.png", "maps", r"b\.png: cannot be decoded"),
        ("a.png", "file", "file: File exists; name another folder for the edge maps"),
    ):
        with pytest.raises(InputError, match=said):
            write_edge_maps(segmenter, [tmp_path / path], tmp_path / folder, None)


def test_two_photographs_of_one_name_are_told(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg", "b.txt", "c.jpg", "c.png"):
        (tmp_path / name).touch()
    assert images_of(tmp_path, ["b"]) == [tmp_path / "b.jpg"]
    with pytest.raises(InputError, match=r"a\.jpg and a\.png are both a; keep one of them"):
        images_of(tmp_path, ["b", "a"])
