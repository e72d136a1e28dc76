"""Recall and precision of proposals against pycocotools and faster-coco-eval, from files and from a corpus."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from corpus.made_corpus import MadeCorpus
from evaluate.made_objects import made_objects
from PIL import Image
from pycocotools import mask as coco_mask

from fastsam_batch.cli import job
from fastsam_batch.evaluate.recall import area_under_recall

SIZES = ("all", "small", "medium", "large")


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def run(capsys, *arguments: object) -> dict:
    assert job("evaluate", ["proposals", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def by_library(library: str, truth: Path, results: Path, kind: str, counts: list[int]):
    """AR@k by size and AP of an evaluator, class-agnostic."""
    with contextlib.redirect_stdout(io.StringIO()):
        if library == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval as Evaluator
        else:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as Evaluator
        coco = COCO(str(truth))
        evaluator = Evaluator(coco, coco.loadRes(str(results)), {"mask": "segm", "box": "bbox"}[kind])
        evaluator.params.useCats = 0
        evaluator.params.maxDets = counts
        evaluator.evaluate()
        evaluator.accumulate()
    recall, precision = evaluator.eval["recall"], evaluator.eval["precision"]  # [T, K, A, M], [T, R, K, A, M]
    return recall[:, 0].mean(0), precision[:, :, 0, :, -1].mean((0, 1)), precision[:, :, 0, 0, -1].mean(1)


@pytest.mark.parametrize("library", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize("kind", ["mask", "box"])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with(library, kind, seed, tmp_path, capsys):
    document, rows = made_objects(seed, found=150)
    if kind == "box":
        rows = [{**row, "bbox": coco_mask.toBbox(row["segmentation"]).tolist()} for row in rows]
        for row in rows:
            del row["segmentation"]
    truth, results = write(tmp_path / "instances.json", document), write(tmp_path / "results.json", rows)
    summary = run(capsys, "--results", results, "--ground-truth", truth, "--max-det", 120)
    assert list(summary["figures"]["score"]) == (["mask", "box"] if kind == "mask" else ["box"])
    figures = summary["figures"]["score"][kind]

    recalls, precisions, by_iou = by_library(library, truth, results, kind, [10, 100, 120])
    for column, count in enumerate((10, 100)):
        for row, size in enumerate(SIZES):
            name = f"AR@{count}" if size == "all" else f"AR@{count}_{size}"
            assert figures[name] == pytest.approx(recalls[row, column], abs=1e-4)
    assert figures["curve"]["proposals"][-1] == 120
    assert figures["curve"]["AR"][-1] == pytest.approx(recalls[0, 2], abs=1e-4)
    assert (figures["AP50"], figures["AP75"]) == pytest.approx((by_iou[0], by_iou[5]), abs=1e-4)
    # Sizes agree because these boxes come without masks, whose area pycocotools would take for theirs.
    for row, size in enumerate(SIZES):
        assert figures["AP" if size == "all" else f"AP_{size}"] == pytest.approx(precisions[row], abs=1e-4)


def test_results_with_masks_are_scored_as_boxes_too(tmp_path, capsys):
    document, rows = made_objects(4)
    truth, results = write(tmp_path / "instances.json", document), write(tmp_path / "results.json", rows)
    figures = run(capsys, "--results", results, "--ground-truth", truth)["figures"]["score"]
    recalls, *_ = by_library("pycocotools", truth, results, "box", [10, 100, 1000])
    for row, size in enumerate(SIZES):
        name = "AR@1000" if size == "all" else f"AR@1000_{size}"
        assert figures["box"][name] == pytest.approx(recalls[row, 2], abs=1e-4)
    assert 0 < figures["mask"]["AR@10"] < figures["mask"]["AR@100"] == figures["mask"]["AR@1000"] < 1


def test_more_masks_on_an_image_than_a_byte_counts(tmp_path, capsys):
    document, rows = made_objects(2, images=3, found=300)
    document["annotations"] = [{**row, "id": 1 + n} for n, row in enumerate(document["annotations"] * 30)]
    truth, results = write(tmp_path / "instances.json", document), write(tmp_path / "results.json", rows)
    figures = run(capsys, "--results", results, "--ground-truth", truth)["figures"]["score"]["mask"]
    recalls, precisions, _ = by_library("pycocotools", truth, results, "mask", [10, 100, 1000])
    assert figures["AR@1000"] == pytest.approx(recalls[0, 2], abs=1e-4)
    assert [figures[f"AP_{size}"] for size in SIZES[1:]] == pytest.approx(precisions[1:], abs=1e-4)


def test_the_areas_of_results_are_those_of_their_pixels(tmp_path, capsys):
    document, rows = made_objects(3)
    truth, results = write(tmp_path / "instances.json", document), tmp_path / "results.json"
    figures = run(capsys, "--results", write(results, rows), "--ground-truth", truth)["figures"]
    write(results, [{**row, "area": 1} for row in rows])
    assert run(capsys, "--results", results, "--ground-truth", truth)["figures"] == figures


def test_an_empty_segmentation_is_none(tmp_path, capsys):
    document, rows = made_objects(4)
    for row in rows:
        row["bbox"] = row.get("bbox") or [1, 1, 5, 5]
        del row["segmentation"]
    truth, boxes = write(tmp_path / "instances.json", document), write(tmp_path / "boxes.json", rows)
    expected = run(capsys, "--results", boxes, "--ground-truth", truth)
    write(tmp_path / "boxes.json", [{**row, "segmentation": []} for row in rows])
    for annotation in document["annotations"]:
        annotation["segmentation"] = []
    write(tmp_path / "instances.json", document)
    assert run(capsys, "--results", boxes, "--ground-truth", truth)["figures"] == expected["figures"]


def corpus_truth(made: MadeCorpus, tmp_path: Path) -> Path:
    """An instances.json of which the corpus's masks are the objects, but for one image that it does not hold."""
    images = [row for row in made.images if row["status"] == "ok"]
    document: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "blob"}]}
    for number, row in enumerate(images, start=1):
        image = {"id": number, "file_name": f"photographs/{row['image_id']}", "height": row["height"]}
        document["images"].append(image | {"width": row["width"]})
        masks = [mask for mask in made.masks if mask["image_id"] == row["image_id"]]
        for mask in masks:
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": mask["bbox"],
                    "area": mask["area"],
                    "segmentation": mask["rle"],
                }
            )
    return write(tmp_path / "instances.json", document)


@pytest.mark.parametrize("ranking", ["score", "stability", "product"])
def test_a_corpus_by_each_ranking(made_once, ranking, tmp_path, capsys):
    truth = corpus_truth(made_once, tmp_path)
    document = json.loads(truth.read_text())
    # Keep every other object, so that the order of the masks matters.
    document["annotations"] = document["annotations"][::2]
    write(truth, document)
    summary = run(capsys, "--corpus", made_once.uri, "--ground-truth", truth, "--rank-by", ranking)
    ids = {Path(image["file_name"]).name: image["id"] for image in document["images"]}
    by = {"score": lambda m: m["score"], "stability": lambda m: m["stability"]}
    by["product"] = lambda m: m["score"] * m["stability"]
    rows = [
        {
            "image_id": ids[mask["image_id"]],
            "category_id": 1,
            "score": by[ranking](mask),
            "segmentation": mask["rle"],
        }
        for mask in made_once.masks
    ]
    recalls, precisions, _ = by_library(
        "pycocotools", truth, write(tmp_path / "results.json", rows), "mask", [1, 10, 1000]
    )
    figures = summary["figures"][ranking]["mask"]
    assert figures["curve"]["AR"][0] == pytest.approx(recalls[0, 0], abs=1e-4)
    assert figures["AR@10"] == pytest.approx(recalls[0, 1], abs=1e-4) == 1.0
    assert figures["AP"] == pytest.approx(precisions[0], abs=1e-4)
    assert summary["images"] == len(document["images"]) and summary["truths"] == len(document["annotations"])


def test_files_of_a_report(made_once, tmp_path, capsys):
    truth = corpus_truth(made_once, tmp_path)
    out = tmp_path / "out"
    ranks = ["--rank-by", "score", "stability", "product"]
    summary = run(capsys, "--corpus", made_once.uri, "--ground-truth", truth, *ranks, "--output", out)
    text = (out / "proposals.md").read_text()
    for ranking in summary["figures"]:
        assert f"mask, by {ranking}" in text and f"box, by {ranking}" in text
    assert json.loads((out / "proposals.json").read_text())["figures"] == summary["figures"]
    assert min(Image.open(out / "proposals.png").size) > 400


def test_an_image_that_the_corpus_lacks_is_missed(made_once, tmp_path, capsys):
    truth = corpus_truth(made_once, tmp_path)
    document = json.loads(truth.read_text())
    before = run(capsys, "--corpus", made_once.uri, "--ground-truth", truth)
    count = len(document["annotations"])
    size = {"height": 50, "width": 50}
    document["images"].append({"id": 999, "coco_url": "memory://lvis/other.jpg", **size})  # as LVIS names it
    document["annotations"].append(
        {"id": 9999, "image_id": 999, "category_id": 1, "bbox": [0, 0, 40, 40], "area": 1600}
        | {"segmentation": [[0, 0, 40, 0, 40, 40, 0, 40]]}
    )
    report = tmp_path / "report"
    after = run(capsys, "--corpus", made_once.uri, "--ground-truth", write(truth, document), "--output", report)
    assert (before["not_in_corpus"], after["not_in_corpus"]) == (0, 1)
    said = f"{len(document['images'])} images (1 of them not segmented in the corpus: all their objects are missed)"
    assert said in (report / "proposals.md").read_text()
    recalls = [found["figures"]["product"]["mask"]["AR@1000"] for found in (before, after)]
    assert recalls == [1.0, pytest.approx(count / (count + 1))]


def test_images_of_one_name_in_other_folders(made_once, tmp_path, capsys):
    truth = corpus_truth(made_once, tmp_path)
    document = json.loads(truth.read_text())
    # Copies of another size after the images that the corpus holds: the last of a name must not win.
    folder, copies = document["images"][0]["file_name"].split("/")[0], []
    for image in document["images"]:
        copies.append({**image, "id": 100 + image["id"], "height": 7, "file_name": f"other/{image['file_name']}"})
        image["file_name"] = image["file_name"].removeprefix(f"{folder}/")
    document["images"] += copies
    summary = run(capsys, "--corpus", made_once.uri, "--ground-truth", write(truth, document))
    assert summary["figures"]["product"]["mask"]["AR@1000"] == 1.0


def test_area_under_recall_is_a_mean_over_the_logarithm():
    counts = np.array([1, 10, 100, 1000])
    assert area_under_recall(np.full(4, 0.3), counts) == pytest.approx(0.3)
    assert area_under_recall(np.array([0.0, 0.1, 0.2, 0.3]), counts) == pytest.approx(0.15)
    # The published row of EdgeBoxes, .074 .178 .338 with AUC .139, fits no linear mean.
    assert area_under_recall(np.array([0.01, 0.074, 0.178, 0.338]), counts) == pytest.approx(0.139, abs=0.01)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("images"), "is not COCO instances"),
        (lambda d: d["images"].clear(), "is not COCO instances"),
        (lambda d: [i.update(file_name=f"x{i['id']}") for i in d["images"]], "no image of the ground truth"),
        (lambda d: [i.update(height=7) for i in d["images"]], "pixels in the corpus and"),
        (lambda d: d["annotations"][0].update(segmentation=3), "neither polygons nor RLE"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 2]]), "a polygon has fewer than three points"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "instances.json: is not COCO instances"),
        (lambda d: d["annotations"][0].update(bbox=["1", "2", "3", "4"]), "bbox ['1', '2', '3', '4'] is text"),
        (lambda d: d["annotations"][0].update(category_id=1e30), "instances.json: is not COCO instances"),
        (lambda d: d["annotations"][0].update(category_id=1.5), "category_id 1.5 is not a whole number"),
        (lambda d: d["images"][0].update(height=float("inf")), "instances.json: is not COCO instances"),
        (lambda d: d["images"][0].update(id="1"), "instances.json: is not COCO instances"),
        (
            lambda d: d["annotations"][0].update(segmentation=[[1, 1, 9, 1, 9, float("nan")]]),
            "a point more than 4 times",
        ),
        (lambda d: d["annotations"][0].update(segmentation=[[1, 1, 9, 1, 9, 3e7]]), "a point more than 4 times"),
        (lambda d: d.update(annotations={"1": {}}), "instances.json: is not COCO instances"),
        (lambda d: d["annotations"][0].update(image_id="1"), "image_id '1' is no image's id"),
        (lambda d: [row.pop("segmentation") for row in d["annotations"]], "instances.json: an annotation of image 1"),
    ],
)
def test_a_wrong_ground_truth_is_a_sentence(made_once, tmp_path, capsys, change, reason):
    truth = corpus_truth(made_once, tmp_path)
    document = json.loads(truth.read_text())
    change(document)
    write(truth, document)
    assert job("evaluate", ["proposals", "--corpus", made_once.uri, "--ground-truth", str(truth)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and reason in said


def of_runs(side: int, counts: object) -> list[dict]:
    return [{"image_id": 1, "category_id": 1, "score": 1, "segmentation": {"size": [side, side], "counts": counts}}]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"image_id": 1, "score": 1}], "is not a COCO results file"),
        ({"a": 1}, "is not a COCO results file"),
        ([{"image_id": 1, "score": 1, "bbox": [0, 0, 4]}], "results.json: is not a COCO results file"),
        ([{"image_id": 1, "score": float("nan"), "bbox": [0, 0, 4, 4]}], "score nan is not a number"),
        ([{"image_id": 1, "score": 10**400, "bbox": [0, 0, 4, 4]}], "results.json: is not a COCO results file"),
        ([{"image_id": 12345, "category_id": 1, "score": 1, "bbox": [0, 0, 4, 4]}], "holds no image_id"),
        (of_runs(5, "i0"), "a mask has the size 5 x 5"),
        (of_runs(5, [0, 25]), "a mask has the size 5 x 5"),
        (of_runs(400, [-1]), "neither polygons nor RLE"),
        (of_runs(400, None), "--results: image 1: a segmentation is neither polygons nor RLE"),
        (of_runs(400, [2, 9]), "run lengths add up to 11, not 400 x 400"),  # pycocotools would compare it for ever
        (
            [{"image_id": 1, "score": 1, "bbox": [0, 0, 4, 4]}, {**of_runs(400, [2, 9])[0], "bbox": []}],
            "--results: image 1: one object has no box and one no mask",
        ),
    ],
)
def test_wrong_results_are_a_sentence(made_once, tmp_path, capsys, rows, reason):
    truth, results = corpus_truth(made_once, tmp_path), write(tmp_path / "results.json", rows)
    assert job("evaluate", ["proposals", "--results", str(results), "--ground-truth", str(truth)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and reason in said


def test_one_kind_of_input(tmp_path, capsys, made_once):
    truth = corpus_truth(made_once, tmp_path)
    assert job("evaluate", ["proposals", "--ground-truth", str(truth)]) == 2
    assert "--corpus or --results" in capsys.readouterr().err
    both = ["--corpus", made_once.uri, "--results", "x.json"]
    assert job("evaluate", ["proposals", *both, "--ground-truth", str(truth)]) == 2
    assert "--corpus or --results" in capsys.readouterr().err
    ranked = ["--results", "x.json", "--rank-by", "stability"]
    assert job("evaluate", ["proposals", *ranked, "--ground-truth", str(truth)]) == 2
    assert "--rank-by stability" in capsys.readouterr().err
