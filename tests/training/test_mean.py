"""The mean of published models."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import BUILTIN_FOLDER
from training.mean import CONFIG, WEIGHTS, main

CLIP = BUILTIN_FOLDER / "clip"


def test_a_mean_lies_between_and_loads(tmp_path: Path) -> None:
    of_one = load_file(CLIP / WEIGHTS)
    moved = {name: value + 0.25 if value.is_floating_point() else value for name, value in of_one.items()}
    shutil.copytree(CLIP, tmp_path / "other")
    save_file(moved, tmp_path / "other" / WEIGHTS, metadata={"format": "pt"})
    assert main(["--of", str(CLIP), str(tmp_path / "other"), "--output", str(tmp_path / "mean")]) == 0
    mean = load_file(tmp_path / "mean" / WEIGHTS)
    assert mean.keys() == of_one.keys()
    for name, value in of_one.items():
        assert mean[name].dtype == value.dtype
        expected = value.float() + 0.125 if value.is_floating_point() else value
        torch.testing.assert_close(mean[name].to(expected.dtype), expected, atol=2e-2, rtol=2e-3)
    assert Embedder(f"local-dir:{tmp_path / 'mean'}").dim == Embedder("builtin").dim


def test_models_of_different_forms_have_none(tmp_path: Path, capsys) -> None:
    shutil.copytree(CLIP, tmp_path / "other")
    (tmp_path / "other" / CONFIG).write_text("{}")
    assert main(["--of", str(CLIP), str(tmp_path / "other"), "--output", str(tmp_path / "mean")]) == 2
    assert "differ" in capsys.readouterr().err
    assert main(["--of", str(tmp_path / "none"), "--output", str(tmp_path / "mean")]) == 2


def test_segmenters_have_a_mean_too(tmp_path: Path, capsys) -> None:
    segmenter = BUILTIN_FOLDER / "segmenter.safetensors"
    of_one = load_file(segmenter)
    moved = {name: value * 0.5 if value.is_floating_point() else value for name, value in of_one.items()}
    save_file(moved, tmp_path / "other.safetensors")
    output = tmp_path / "mean.safetensors"
    assert main(["--of", str(segmenter), str(tmp_path / "other.safetensors"), "--output", str(output)]) == 0
    for name, value in load_file(output).items():
        expected = of_one[name].float() * (0.75 if value.is_floating_point() else 1)
        torch.testing.assert_close(value.float(), expected, atol=1e-4, rtol=2e-3)
    assert Segmenter(output).imgsz == Segmenter(segmenter).imgsz
    assert main(["--of", str(segmenter), str(CLIP / WEIGHTS), "--output", str(tmp_path / "none")]) == 2
    assert "differ" in capsys.readouterr().err and not (tmp_path / "none").exists()
