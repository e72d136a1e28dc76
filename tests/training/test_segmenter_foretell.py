"""What another network sees at every place of a scene, learnt by the segmenter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics.nn.tasks import SegmentationModel

from fastsam_batch.errors import InputError
from fastsam_batch.models.network import head_features, load_module
from training.clip.__main__ import main as train_clip
from training.photographs import read_data
from training.segmenter.__main__ import compose, main
from training.segmenter.foretell import Foreteller
from training.segmenter.network import build
from training.segmenter.train import Plan, glimpses, train


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((4, 3, 64, 96), np.float32))


def test_features_are_what_the_head_takes(weights: Path, images: torch.Tensor) -> None:
    network, _ = load_module(weights)
    taken: list[torch.Tensor] = []
    network.model[-1].register_forward_pre_hook(lambda _, given: taken.extend(given[0]))
    with torch.no_grad():
        features = head_features(network, images)
        network(images)
    assert [tuple(each.shape[2:]) for each in features] == [(8, 12), (4, 6), (2, 3)]
    for one, other in zip(features, taken, strict=True):
        torch.testing.assert_close(one, other)


def test_the_loss_is_nothing_where_the_features_are_foretold(weights: Path, images: torch.Tensor) -> None:
    teacher, _ = load_module(weights)
    foreteller = Foreteller(teacher, weights, images)
    assert all("map" in name for name, _ in foreteller.named_parameters())  # the teacher learns nothing
    with torch.no_grad():
        features = head_features(teacher, images)
        before = float(foreteller(features, images))
        for level in range(len(features)):
            mean, deviation = (foreteller.get_buffer(f"{what}{level}").flatten() for what in ("mean", "deviation"))
            linear = foreteller.get_submodule(f"map{level}")
            linear.weight.copy_(torch.diag(1 / deviation)[:, :, None, None])
            linear.bias.copy_(-mean / deviation)
        assert float(foreteller(features, images)) < 0.05 < 0.5 < before < 1.5
        for level in range(len(features)):
            linear = foreteller.get_submodule(f"map{level}")
            linear.weight.neg_()
            linear.bias.neg_()
        assert float(foreteller(features, images)) == pytest.approx(2, abs=0.05)


def test_a_teacher_of_other_strides_is_refused(tmp_path: Path, images: torch.Tensor) -> None:
    torch.save({"model": SegmentationModel("yolov8n-seg-p6.yaml", nc=3, verbose=False)}, tmp_path / "p6.pt")
    segmenter = SegmentationModel("yolov8n-seg.yaml", nc=1, verbose=False)
    with pytest.raises(InputError, match=r"p6\.pt: sees in other strides than the segmenter"):
        Foreteller(segmenter, tmp_path / "p6.pt", images)


def run(data_folder: Path, weights: Path, output: Path, plan: Plan, resume: bool = False) -> list[float]:
    torch.manual_seed(0)
    composer = compose(read_data(data_folder).train[:6], [], [], 0)
    model = build("n", "none")
    foreteller = Foreteller(model, weights, glimpses(composer, 8, 64, "cpu"))
    return train(model, composer, plan, output, foreteller=foreteller, resume=resume)[1]


def test_a_run_that_foretells_first_goes_on_where_it_stopped(data_folder: Path, weights: Path, tmp_path: Path) -> None:
    plan = Plan(steps=4, batch=6, sizes=((1.0, 64),), foretell=1)
    before = run(data_folder, weights, tmp_path, plan)
    assert len(before) == 4 and all(0 < loss < 7 for loss in before) and before[-1] < before[0]
    after = run(data_folder, weights, tmp_path, replace(plan, steps=8, foretell=0.6), resume=True)
    assert after[:4] == before and after[4] < before[0] and min(after[5:]) > 7  # and then everything is learnt
    composer = compose(read_data(data_folder).train[:6], [], [], 0)
    with pytest.raises(InputError, match=r"checkpoint\.pt: its run was with --features; go on as it began"):
        train(build("n", "none"), composer, plan, tmp_path, resume=True)


@pytest.mark.parametrize("recipe", [main, train_clip])
def test_to_foretell_needs_a_network(
    recipe: Callable[[list[str]], int], data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(data_folder), "--output", str(tmp_path), "--steps", "1", "--foretell", "0.5"]
    assert recipe(arguments) == 2
    assert "--foretell: what is to be foretold? name a network's weights as --features" in capsys.readouterr().err
