"""What another network sees in the crops, learnt by the image tower."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.clip.__main__ import main
from training.clip.batches import Sampler, Seen
from training.clip.crops import Crops, all_crops, read_crops, write_crops
from training.clip.features import Backbone, Seer
from training.clip.losses import feature_loss
from training.clip.model import FILL_RGB
from training.clip.text import TextBank
from training.photographs import read_data


@pytest.fixture(scope="module")
def crops(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Crops:
    folder = tmp_path_factory.mktemp("crops")
    write_crops(all_crops(read_data(data_folder).train[:6], None, 48, FILL_RGB), folder, 48)
    return read_crops(folder)


@pytest.fixture(scope="module")
def sampler(crops: Crops) -> Sampler:
    names = sorted({row.name for row in crops.rows if row.name} | {noun for row in crops.rows for noun in row.nouns})
    same = torch.eye(len(names)) > 0
    bank = TextBank(
        names, torch.eye(len(names)), torch.eye(len(names)), same, same, torch.arange(1), torch.zeros(0, len(names))
    )
    return Sampler(crops, bank, FILL_RGB, 0, sees=True)


def test_features_have_mean_nothing_and_deviation_one(crops: Crops, weights: Path) -> None:
    seer = Seer([weights], crops)
    surrounded = np.stack(
        [pixels for pixels, row in zip(crops.pixels, crops.rows, strict=True) if row.kind == "context"]
    )
    features = seer.features(Seen(surrounded, np.arange(len(surrounded))))
    assert features.shape == (len(surrounded), seer.width) == (len(surrounded), 128 + 256)
    torch.testing.assert_close(features.mean(0), torch.zeros(seer.width), atol=0.05, rtol=0)
    assert 0.5 < features.std(0).max() < 1.05  # without training they hardly vary
    assert len(features.unique(dim=0)) == len(features)
    twice = seer.features(Seen(surrounded, np.array([1, 1, 0])))
    torch.testing.assert_close(twice, features[[1, 1, 0]])


@pytest.mark.parametrize("name", ["yolo11n.yaml", "yolov8n-worldv2.yaml"])
def test_any_network_s_backbone_is_read_as_it_is(name: str, crops: Crops, weights: Path, tmp_path: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel, WorldModel

    torch.manual_seed(0)
    network = (WorldModel if "world" in name else DetectionModel)(name, nc=3, verbose=False)
    backbone, pixels = network.model[: len(network.yaml["backbone"])], torch.rand(4, 3, 64, 64)
    for layer in backbone.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        backbone.train()(pixels)  # so that variances are small and the epsilon tells
        path = tmp_path / "network.pt"
        torch.save({"model": network.eval()}, path)
        middle = backbone[:7](pixels)
        deepest = torch.cat([each.mean((2, 3)) for each in (middle, backbone[7:](middle))], 1)
    torch.testing.assert_close(Backbone(path, "cpu").features(pixels), deepest, rtol=1e-3, atol=1e-3)
    both = Seer([weights, path], crops)
    assert both.width == Seer([weights], crops).width + deepest.shape[1]


def test_a_mask_s_two_crops_are_seen_once_and_changed_alike(sampler: Sampler) -> None:
    crops, seen = sampler.draw_seen(40, 48)
    assert len(seen.crops) == 24 < len(crops) == len(seen.of)
    for view in range(len(seen.crops)):
        mine = np.flatnonzero(seen.of == view)
        assert 1 <= len(mine) <= 2
        np.testing.assert_array_equal(crops[mine[-1]], seen.crops[view])  # with surroundings: as it is seen
        if len(mine) == 2:
            assert (crops[mine[0]] != seen.crops[view]).any()


def test_of_a_batch_each_crop_is_seen_with_its_surroundings(sampler: Sampler) -> None:
    batch = sampler.draw(40, 32)
    assert batch.seen is not None and batch.crops.shape[1:] == (32, 32, 3) and batch.seen.crops.shape[1:] == (48, 48, 3)
    np.testing.assert_array_equal(batch.seen.of, np.arange(len(batch.crops)))


def test_the_loss_is_least_where_the_features_are_foretold() -> None:
    features = torch.eye(2)

    def of(foretold: list[list[float]]) -> float:
        return float(feature_loss(torch.tensor(foretold), features))

    assert of([[2.0, 0], [0, 3]]) == pytest.approx(0, abs=1e-6)
    assert of([[0, 2.0], [3, 0]]) == pytest.approx(1)
    assert of([[-2.0, 0], [0, 1]]) == pytest.approx(1)


def test_a_run_that_foretells_first_goes_on_where_it_stopped(data_folder: Path, weights: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(data_folder), "--output", str(tmp_path), "--batch", "16", "--size", "48"]
    arguments += ["--segmenter", "none", "--threads", "1", "--features", str(weights)]
    assert main([*arguments, "--steps", "3", "--foretell", "1"]) == 0
    before = json.loads((tmp_path / "metrics.json").read_text())["losses"]
    assert len(before) == 3 and all(0 < loss <= 4 for loss in before)  # twice one less a cosine, and nothing else
    assert main([*arguments, "--steps", "6", "--foretell", "0.6", "--resume"]) == 0
    after = json.loads((tmp_path / "metrics.json").read_text())["losses"]
    assert after[:3] == before and after[3] <= 4 < min(after[4:])
