"""Regions that a Segment Anything network finds: the good and stable ones, each once, in the photograph's frame."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from training.photographs import read_data
from training.segmenter import regions
from training.segmenter.regions import RegionFinder, _chosen, _grid, _without_crumbs, main
from training.taught import read_taught


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MobileSAM without training, which thinks all of its masks good and is sure of every pixel."""
    from ultralytics.models.sam.build import build_mobile_sam

    torch.manual_seed(0)
    network = build_mobile_sam()
    decoder = network.mask_decoder
    torch.nn.init.zeros_(decoder.iou_prediction_head.layers[-1].weight)
    torch.nn.init.ones_(decoder.iou_prediction_head.layers[-1].bias)
    for mlp in decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight.data *= 1000
    path = tmp_path_factory.mktemp("sam") / "mobile_sam.pt"
    torch.save(network.state_dict(), path)
    return path


def test_points_lie_evenly_over_the_image_alone() -> None:
    points = _grid((256, 512)).numpy()
    assert len(points) == 5 * 10
    assert points.min() == 25.6 and points[:, 0].max() == pytest.approx(512 - 25.6)
    assert points[:, 1].max() == pytest.approx(256 - 25.6)
    assert len(_grid((3, 512))) == 2 * 10


def test_good_stable_masks_are_chosen_once() -> None:
    logits = torch.full((6, 8, 8), -5.0)
    logits[0, :4] = 5.0
    logits[1, :4] = 5.0  # the same, of less quality
    logits[2, 4:] = 5.0  # of too little
    logits[3, :, :4] = 0.5  # changes with the threshold
    logits[4, :, 4:] = 5.0
    quality = torch.tensor([0.95, 0.9, 0.79, 0.99, 0.97, 0.99])  # the last one has no pixel
    places, scores = _chosen(logits, quality)
    assert places.tolist() == [4, 0]
    torch.testing.assert_close(scores, torch.tensor([0.97, 0.95]))


def test_crumbs_are_taken_from_a_mask_and_large_parts_are_not() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[2:12, 2:12] = 1
    mask[20:26, 40:50] = 1
    whole = mask.copy()
    mask[30, 30] = 1
    np.testing.assert_array_equal(_without_crumbs(mask), whole)
    assert not _without_crumbs(np.zeros((4, 4), np.uint8)).any()


def test_regions_are_in_the_frame_of_the_photograph(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "SIDE", 128)
    monkeypatch.setattr(regions, "POINTS", 4)
    finder = RegionFinder(weights)
    image = np.full((50, 90, 3), 40, np.uint8)
    cv2.circle(image, (60, 25), 15, (250, 200, 30), -1)
    found = finder.find(image)
    assert found and all(mask.rle.size == (50, 90) and 0.8 <= mask.score <= 1 for mask in found)
    assert [mask.score for mask in found] == sorted((mask.score for mask in found), reverse=True)
    rles = [mask.rle.to_coco() for mask in found]
    assert min(coco_mask.area(rles)) >= regions.MIN_AREA


def test_the_file_is_one_of_masks_to_be_taught(
    weights: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "SIDE", 64)
    monkeypatch.setattr(regions, "POINTS", 2)
    output = tmp_path / "regions.json"
    arguments = ["--data", str(data_folder), "--weights", str(weights), "--output", str(output), "--second", "0"]
    assert main([*arguments, "--limit", "2", "--threads", "1"]) == 0
    document = json.loads(output.read_text())
    photographs = read_data(data_folder).train
    assert len(document) == 2
    assert {path.path.name for path in read_taught([output], photographs)} == {
        name for name in document if document[name]
    }


def test_other_weights_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.pt"
    torch.save({"a": torch.zeros(1)}, other)
    for path in (other, tmp_path / "none.pt"):
        assert main(["--data", str(tmp_path), "--weights", str(path), "--output", str(tmp_path / "out.json")]) == 2
        assert f"error: {path}: not the weights of a MobileSAM (" in capsys.readouterr().err
