"""COCO instances, read by pycocotools and supervision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from corpus.made_corpus import MadeCorpus
from export.hard_masks import NAME
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from fastsam_batch.cli import job
from fastsam_batch.export.ids import image_number, mask_number


def run(made: MadeCorpus, output: Path, *arguments: str) -> int:
    return job("export", ["--corpus", made.uri, "--format", "coco", "--output", str(output), *arguments])


@pytest.mark.parametrize("shape", ["rle", "polygon"])
def test_pycocotools_reads_every_mask_to_the_pixel(hard: MadeCorpus, tmp_path: Path, capsys, shape: str) -> None:
    output = tmp_path / "new" / "instances.json"
    assert run(hard, output, "--shape", shape) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    coco = COCO(str(output))

    ok = [row for row in hard.images if row["status"] == "ok"]
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [row["image_id"] for row in ok]
    for row in ok:
        image = coco.imgs[image_number(row["image_id"])]
        assert (image["width"], image["height"], image["uri"]) == (row["width"], row["height"], row["uri"])
    assert len(coco.anns) == len(hard.masks)
    for row in hard.masks:
        annotation = coco.anns[mask_number(row["image_id"], row["mask_index"])]
        assert annotation["image_id"] == image_number(row["image_id"])
        assert annotation["category_id"] == 1 and annotation["iscrowd"] == 0
        assert annotation["bbox"] == row["bbox"] and annotation["area"] == row["area"]
        assert annotation["score"] == pytest.approx(row["score"], abs=1e-6)
        assert annotation["mask_index"] == row["mask_index"]
        assert isinstance(annotation["segmentation"], dict) == (shape == "rle")
        np.testing.assert_array_equal(coco.annToMask(annotation), coco_mask.decode(row["rle"]))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["object"]

    assert (summary["images"], summary["failed_images"], summary["masks"]) == (len(ok), 1, len(hard.masks))
    assert summary["loss"] is None if shape == "rle" else summary["loss"]["exact"] == len(hard.masks)


def test_supervision_reads_every_mask(hard: MadeCorpus, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is the oracle of this test")
    assert run(hard, tmp_path / "instances.json") == 0
    folder = Path(hard.images[0]["uri"]).parent
    (folder / NAME).parent.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes((tmp_path / "photographs" / NAME).read_bytes())
    dataset = supervision.DetectionDataset.from_coco(
        images_directory_path=str(folder), annotations_path=str(tmp_path / "instances.json"), force_masks=True
    )
    rows = {row["image_id"]: [] for row in hard.images}
    for row in hard.masks:
        rows[row["image_id"]].append(row)
    seen = 0
    for path, _, detections in dataset:
        if not len(detections):
            assert not rows[str(Path(path).relative_to(folder))]
            continue
        for row, mask, box in zip(
            rows[str(Path(path).relative_to(folder))], detections.mask, detections.xyxy, strict=True
        ):
            np.testing.assert_array_equal(mask, coco_mask.decode(row["rle"]))
            x, y, width, height = row["bbox"]
            assert box.tolist() == [x, y, x + width, y + height]
            seen += 1
    assert seen == len(hard.masks)


def test_an_export_repeated_is_the_same_file(hard: MadeCorpus, tmp_path: Path) -> None:
    assert run(hard, tmp_path / "a.json", "--shape", "polygon") == run(hard, tmp_path / "b.json", "--shape", "polygon")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_ids_do_not_depend_on_what_else_is_exported(hard: MadeCorpus, tmp_path: Path) -> None:
    assert run(hard, tmp_path / "all.json") == 0
    assert run(hard, tmp_path / "few.json", "--min-score", "0.75", "--top-n", "2") == 0
    everything, few = (json.loads((tmp_path / name).read_text()) for name in ("all.json", "few.json"))
    assert everything["images"] == few["images"]
    annotations = {annotation["id"]: annotation for annotation in everything["annotations"]}
    assert 0 < len(few["annotations"]) < len(annotations)
    assert all(annotations[annotation["id"]] == annotation for annotation in few["annotations"])


def test_masks_that_lose_too_much_stay_rle(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    arguments = ["--shape", "polygon", "--tolerance", "1.5", "--loss-report", str(tmp_path / "loss.json")]
    assert run(hard, tmp_path / "lossy.json", *arguments) == 0
    everything = json.loads((tmp_path / "loss.json").read_text())
    assert everything == json.loads(capsys.readouterr().out.splitlines()[-1])["loss"]
    assert run(hard, tmp_path / "checked.json", *arguments, "--max-loss", "0.05") == 0
    loss = json.loads((tmp_path / "loss.json").read_text())

    coco = COCO(str(tmp_path / "lossy.json"))
    ious = {}
    for row in hard.masks:
        annotation = coco.anns[mask_number(row["image_id"], row["mask_index"])]
        ious[row["image_id"], row["mask_index"]] = float(
            coco_mask.iou([coco.annToRLE(annotation)], [row["rle"]], [0])[0, 0]
        )
    assert everything["mean_iou"] == pytest.approx(np.mean(list(ious.values())), abs=1e-6)
    assert everything["exact"] == sum(iou == 1 for iou in ious.values())
    worst = [(case["iou"], case["image_id"], case["mask_index"]) for case in everything["worst"]]
    expected = sorted((round(iou, 4), *key) for key, iou in ious.items() if iou < 1)[: len(worst)]
    assert worst == expected
    assert everything["worst"][0]["outcome"] == "written" and everything["fallbacks"] == 0

    few = sum(1 - iou > 0.05 for iou in ious.values())
    assert 0 < few == loss["fallbacks"] < len(hard.masks)
    coco = COCO(str(tmp_path / "checked.json"))
    kept = 0
    for row in hard.masks:
        annotation = coco.anns[mask_number(row["image_id"], row["mask_index"])]
        if isinstance(annotation["segmentation"], dict):
            kept += 1
            np.testing.assert_array_equal(coco.annToMask(annotation), coco_mask.decode(row["rle"]))
    assert kept == few


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tolerance", "1"], "--format coco writes RLE"),
        (["--max-loss", "0.1", "--shape", "rle"], "ask for --shape polygon"),
        (["--tolerance", "-1", "--shape", "polygon"], "--tolerance -1: give 0 or more"),
        (["--tolerance", "nan", "--shape", "polygon"], "--tolerance nan"),
        (["--min-score", "nan"], "--min-score nan: give a number from 0 to 1"),
        (["--min-area", "-5"], "--min-area -5"),
        (["--max-loss", "5", "--shape", "polygon"], "--max-loss 5"),
        (["--top-n", "0"], "--top-n 0"),
        (["--nested", "1.5"], "--nested is 1.5"),
        (["--where", "nonsense > 1"], "nonsense"),
    ],
)
def test_wrong_options_are_a_sentence(made: MadeCorpus, tmp_path: Path, capsys, arguments, message) -> None:
    assert run(made, tmp_path / "x.json", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
