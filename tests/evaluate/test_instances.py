"""Masks chosen by a detector's boxes against pycocotools, and the time of prompts."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from corpus.made_corpus import MadeCorpus
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from reference.select import select_box

from fastsam_batch.cli import job
from fastsam_batch.evaluate.speed import prompt_points


def made_detections(made: MadeCorpus, folder: Path) -> tuple[Path, Path, list[dict]]:
    """Ground truth of two categories from every other mask, detections around all masks, and what they choose."""
    rng = np.random.default_rng(3)
    images = [row for row in made.images if row["status"] == "ok"]
    document: dict = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3, "name": "cup"}, {"id": 7, "name": "cat"}],
    }
    detections, chosen = [], []
    for number, row in enumerate(images, start=1):
        size = {"height": row["height"], "width": row["width"]}
        document["images"].append({"id": number, "file_name": row["image_id"], **size})
        stored = [mask for mask in made.masks if mask["image_id"] == row["image_id"]]
        if not stored:
            continue
        masks = np.stack([coco_mask.decode(mask["rle"]) for mask in stored]).astype(bool)
        for index, mask in enumerate(stored):
            category = 3 if index % 3 else 7
            common = {"image_id": number, "category_id": category}
            if index % 2 == 0:
                document["annotations"].append(
                    {**common, "id": len(document["annotations"]) + 1, "iscrowd": 0, "area": mask["area"]}
                    | {"bbox": mask["bbox"], "segmentation": mask["rle"]}
                )
            x, y, width, height = mask["bbox"]
            jitter = rng.integers(-6, 7, 4).tolist()
            box = [x + jitter[0], y + jitter[1], max(width + jitter[2], 2), max(height + jitter[3], 2)]
            score = float(rng.random())
            detections.append({**common, "bbox": box, "score": score})
            corners = np.round([box[0], box[1], box[0] + box[2], box[1] + box[3]]).astype(int)
            corners = np.clip(corners, 0, [row["width"], row["height"]] * 2)
            answer, _ = select_box(masks, tuple(corners.tolist()))
            if answer is not None:
                chosen.append({**common, "score": score, "segmentation": stored[answer]["rle"]})
    detections.append({"image_id": 1, "category_id": 3, "bbox": [-50, -50, 20, 20], "score": 0.9})
    truth, boxes = folder / "instances.json", folder / "detections.json"
    truth.write_text(json.dumps(document))
    boxes.write_text(json.dumps(detections))
    return truth, boxes, chosen


def test_ap_is_pycocotools(made_once, tmp_path, capsys):
    truth, boxes, chosen = made_detections(made_once, tmp_path)
    given = ["instances", "--corpus", made_once.uri, "--detections", str(boxes), "--ground-truth", str(truth)]
    assert job("evaluate", [*given, "--output", str(tmp_path / "out")]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluator = COCOeval(coco, coco.loadRes(chosen), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    for name, expected in zip(names, evaluator.stats[:6], strict=True):
        assert (summary[name] if summary[name] is not None else -1) == pytest.approx(expected, abs=1e-4)
    assert (summary["prompted"], summary["not_in_corpus"]) == (len(chosen), 0)
    assert set(summary["by_category"]) == {"cup", "cat"}
    assert f"| this corpus | {summary['AP']:.3f} |" in (tmp_path / "out" / "instances.md").read_text()
    assert Image.open(tmp_path / "out" / "instances.png").size[0] > 400


def test_detections_without_boxes_are_refused(made_once, tmp_path, capsys):
    truth, boxes, chosen = made_detections(made_once, tmp_path)
    boxes.write_text(json.dumps(chosen))
    given = ["instances", "--corpus", made_once.uri, "--detections", str(boxes), "--ground-truth", str(truth)]
    assert job("evaluate", given) == 2
    assert "without bbox" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        ({"category_id": None}, [], "detections.json: is not a COCO results file (KeyError: 'category_id')"),
        ({"bbox": [1, 2, 3]}, [], "detections.json: is not a COCO results file (ValueError: bbox [1, 2, 3]"),
        ({"category_id": "cat"}, [], "detections.json: is not a COCO results file (ValueError"),
        ({}, ["--max-det", "-1"], "--max-det -1: give 1 or more"),
    ],
)
def test_wrong_detections_are_a_sentence(made_once, tmp_path, capsys, change, options, reason):
    truth, boxes, _ = made_detections(made_once, tmp_path)
    rows = json.loads(boxes.read_text())
    rows[0] = {name: value for name, value in {**rows[0], **change}.items() if value is not None}
    boxes.write_text(json.dumps(rows))
    given = ["instances", "--corpus", made_once.uri, "--detections", str(boxes), "--ground-truth", str(truth)]
    assert job("evaluate", [*given, *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and reason in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row: row.update(image_id=str(row["image_id"])), "--detections holds no image_id of the ground truth"),
        (lambda row: row.update(category_id=99), "--detections holds no category_id of the ground truth"),
    ],
)
def test_detections_that_count_otherwise_are_refused(made_once, tmp_path, capsys, change, reason):
    truth, boxes, _ = made_detections(made_once, tmp_path)
    rows = json.loads(boxes.read_text())
    for row in rows:
        change(row)
    boxes.write_text(json.dumps(rows))
    given = ["instances", "--corpus", made_once.uri, "--detections", str(boxes), "--ground-truth", str(truth)]
    assert job("evaluate", given) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and reason in said


def test_lvis_is_refused(made_once, tmp_path, capsys):
    truth, boxes, _ = made_detections(made_once, tmp_path)
    document = json.loads(truth.read_text())
    document["images"][0] |= {"neg_category_ids": [7], "not_exhaustive_category_ids": []}
    truth.write_text(json.dumps(document))
    given = ["instances", "--corpus", made_once.uri, "--detections", str(boxes), "--ground-truth", str(truth)]
    assert job("evaluate", given) == 2
    assert "instances.json: is LVIS" in capsys.readouterr().err


def test_prompts_are_as_many_as_they_say_and_inside():
    by_number = prompt_points((30, 50))
    expected = {"1": 1, "10": 10, "100": 100, "16 x 16": 256, "32 x 32": 1024, "64 x 64": 4096}
    assert {name: len(points) for name, points in by_number.items()} == expected
    for points in by_number.values():
        x, y = np.array(points).T
        assert x.min() >= 0 and x.max() < 50 and y.min() >= 0 and y.max() < 30


def test_no_image_is_none_to_time(made_once, capsys):
    assert job("evaluate", ["speed", "--corpus", made_once.uri, "--images", "0"]) == 2
    assert capsys.readouterr().err == "error: --images 0: give 1 or more\n"


@pytest.mark.parametrize("model", [False, True])
def test_speed_of_a_corpus(made_once, tmp_path, capsys, model):
    given = ["--corpus", made_once.uri, "--images", "2", "--output", str(tmp_path)]
    assert job("evaluate", ["speed", *given, *(["--segmenter", "builtin"] if model else [])]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["images"] == 2 and summary["masks_per_image"] == 6
    times = [row["answer_ms"] for row in summary["prompts"]]
    assert all(time > 0 for time in times) and times[-1] > times[0]
    assert (summary["model_ms"] is not None) is model and summary["peak_mib"] > 20
    if model:
        assert all(row["total_ms"] == summary["model_ms"] + row["answer_ms"] for row in summary["prompts"])
    assert "| 64 x 64 |" in (tmp_path / "speed.md").read_text()
    assert min(Image.open(tmp_path / "speed.png").size) > 400


def test_a_photograph_that_is_gone_is_a_sentence(made, capsys):
    photographs = Path(made.images[0]["uri"])
    kept = photographs.read_bytes()
    photographs.unlink()
    try:
        given = ["--corpus", made.uri, "--images", "1", "--segmenter", "builtin", "--device", "cpu"]
        assert job("evaluate", ["speed", *given]) == 2
    finally:
        photographs.write_bytes(kept)
    said = capsys.readouterr().err
    assert "cannot read the photograph of 'astronaut.png'" in said and said.endswith("or leave out --segmenter\n")
