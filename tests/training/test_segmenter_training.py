"""The segmenter's recipe end to end, small: the loss falls, it goes on where it stopped, what it writes loads."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter
from training.segmenter.__main__ import main
from training.segmenter.evaluate import recalls
from training.segmenter.loss import Batch, Loss
from training.segmenter.network import blended, build, export
from training.segmenter.picture import main as draw_picture

SMALL = ["--sizes", "64,96:0.9", "--imgsz", "64", "--threads", "1", "--batch", "6", "--lr", "3e-3"]


@pytest.fixture(scope="module")
def published(data_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("segmenter")
    assert main(["--data", str(data_folder), "--output", str(output), "--steps", "16", *SMALL]) == 0
    return output


def test_the_loss_falls_and_the_record_is_whole(published):
    metrics = json.loads((published / "metrics.json").read_text())
    history = metrics["losses"]
    assert metrics["steps"] == len(history) == 16
    assert np.mean(history[-4:]) < 0.9 * np.mean(history[:4])
    assert len(metrics["validation_files"]) == 40 and metrics["train_photographs"] == 12
    assert metrics["train_masks"] == 24 and metrics["recipe"]["start"] == "none"
    assert 0 <= metrics["figures"]["validation"]["ar100"] <= 1
    assert metrics["figures"]["validation"]["labels"] == 80


def test_a_stopped_run_goes_on(data_folder, published):
    before = json.loads((published / "metrics.json").read_text())["losses"]
    arguments = ["--data", str(data_folder), "--output", str(published), "--steps", "18", *SMALL, "--resume"]
    assert main(arguments) == 0
    metrics = json.loads((published / "metrics.json").read_text())
    assert metrics["steps"] == 18 and metrics["losses"][:16] == before


def test_the_export_loads_with_the_same_outputs(tmp_path):
    model = build("n", "builtin")
    export(model, tmp_path / "segmenter.safetensors", "n", {"imgsz": 96, "conf": 0.05, "iou": 0.6})
    image = np.random.default_rng(0).integers(0, 256, (70, 96, 3), np.uint8)
    ours = Segmenter(tmp_path / "segmenter.safetensors")
    assert (ours.imgsz, ours.conf, ours.iou, ours.licence) == (96, 0.05, 0.6, "AGPL-3.0")
    theirs = Segmenter(find_segmenter("builtin").main, imgsz=96, conf=0.05, iou=0.6)
    one, other = ours.detect([image])[0], theirs.detect([image])[0]
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    np.testing.assert_array_equal(one.on_host(), other.on_host())


def test_a_blend_lies_between():
    model = build("n", "none")
    start = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    mixed = blended(model, start, 0.25).state_dict()
    for name, tensor in model.state_dict().items():
        expected = 0.75 * tensor if tensor.is_floating_point() else tensor
        torch.testing.assert_close(mixed[name], expected)


def test_a_missing_start_is_refused(data_folder, tmp_path, capsys):
    arguments = ["--data", str(data_folder), "--output", str(tmp_path), "--steps", "1", "--start", "/no/file"]
    assert main(arguments) == 2
    assert "/no/file" in capsys.readouterr().err


def batch_of(boxes: list[list[float]], negatives: float) -> Batch:
    shares = torch.zeros(len(boxes), 16, 16, dtype=torch.uint8)
    for share, (left, top, right, bottom) in zip(shares, boxes, strict=True):
        share[int(top) // 4 : int(bottom) // 4, int(left) // 4 : int(right) // 4] = 255
    return Batch(
        images=torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        of_image=torch.zeros(len(boxes), dtype=torch.int64),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        shares=shares,
        negatives=torch.tensor([negatives]),
    )


def test_negatives_count_as_much_as_the_scene_says():
    torch.manual_seed(0)
    model = build("n", "none")
    loss, generator = Loss(model), torch.Generator()
    outputs = model(batch_of([], 1).images)
    whole, half, none = (loss(outputs, batch_of([], share), generator) for share in (1.0, 0.5, 0.0))
    assert whole["cls"] > 0 and none["cls"] == 0
    assert half["cls"].item() == pytest.approx(whole["cls"].item() / 2, rel=1e-5)
    assert whole["box"] == whole["mask"] == 0


def test_masks_that_fit_cost_nothing():
    model = build("n", "none")
    loss, generator = Loss(model), torch.Generator().manual_seed(0)
    batch = batch_of([[16, 8, 48, 40]], 1.0)
    outputs = dict(model(batch.images))
    right = torch.where(batch.shares[0] > 0, 12.0, -12.0)
    outputs["proto"] = torch.zeros(1, 32, 16, 16).index_fill(1, torch.tensor([0]), 1.0) * right
    outputs["mask_coefficient"] = torch.ones_like(outputs["mask_coefficient"])
    assert loss(outputs, batch, generator)["mask"].item() < 0.01
    outputs["mask_coefficient"] = -outputs["mask_coefficient"]
    assert loss(outputs, batch, generator)["mask"].item() > 3


def test_recalls_by_hand():
    from pycocotools import mask as coco_mask

    def rle(x: int, side: int) -> dict[str, object]:
        mask = np.zeros((200, 400), np.uint8, order="F")
        mask[:side, x : x + side] = 1
        return coco_mask.encode(mask)

    def entry(x: int, side: int, **more: object) -> dict[str, object]:
        shared = {"image_id": 0, "category_id": 1, "segmentation": rle(x, side), "iscrowd": 0, "bbox": [0, 0, 1, 1]}
        return shared | more

    images = [{"id": 0, "height": 200, "width": 400}]
    labels = [entry(0, 120, id=1, area=14400), entry(150, 20, id=2, area=400), entry(200, 20, id=3, area=400)]
    found = [entry(0, 120, score=0.9), entry(150, 16, score=0.8)]
    figures = recalls(images, labels, found)
    assert figures["recall50_large"] == 1 and figures["recall50_small"] == 0.5
    assert figures["recall50_all"] == pytest.approx(2 / 3)
    # IoU .64 is enough at three of the ten thresholds
    assert figures["ar100"] == pytest.approx((10 + 3) / 30)
    assert recalls(images, labels, [])["ar100"] == 0


def test_the_picture_has_a_row_for_each_of_the_weights(published, tmp_path, capsys):
    weights = ["builtin", str(published / "segmenter.safetensors")]
    arguments = ["--photographs", "coffee.png", "rocket.jpg", "--height", "60", "--output", str(tmp_path / "x.png")]
    assert draw_picture(["--weights", *weights, *arguments]) == 0
    drawn = cv2.imread(str(tmp_path / "x.png"))
    assert drawn.shape[0] == 3 * 60 + 2 * 6
    assert (drawn[66:126, :80] != drawn[:60, :80]).any()  # masks over the coffee
    assert draw_picture(["--weights", "/no/file", *arguments]) == 2
    assert "/no/file" in capsys.readouterr().err
