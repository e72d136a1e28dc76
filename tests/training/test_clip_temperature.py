"""The temperature that makes a published model's scores likelihoods."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.weights import BUILTIN_FOLDER
from training.clip.temperature import fitted_scale, main
from training.mean import WEIGHTS

CLIP = BUILTIN_FOLDER / "clip"


@pytest.mark.parametrize("scale", [5.0, 20.0, 40.0])
def test_labels_drawn_at_a_scale_tell_it(scale: float) -> None:
    random = np.random.default_rng(0)
    cosines = random.normal(0, 0.1, (20_000, 10)).astype(np.float32)
    # The largest of logits with Gumbel noise is drawn by their softmax.
    labels = (scale * cosines + random.gumbel(size=cosines.shape)).argmax(1)
    assert fitted_scale(cosines, labels) == pytest.approx(scale, rel=0.05)


def test_only_the_scale_of_a_model_changes(data_folder, tmp_path: Path, capsys) -> None:
    shutil.copytree(CLIP, tmp_path / "clip")
    assert main(["--model", str(tmp_path / "clip"), "--data", str(data_folder)]) == 0
    printed = float(capsys.readouterr().out)
    before, after = load_file(CLIP / WEIGHTS), load_file(tmp_path / "clip" / WEIGHTS)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "logit_scale")
    assert after["logit_scale"].dtype == before["logit_scale"].dtype
    with safe_open(CLIP / WEIGHTS, "pt") as old, safe_open(tmp_path / "clip" / WEIGHTS, "pt") as new:
        assert old.metadata() == new.metadata()
    assert Embedder(f"local-dir:{tmp_path / 'clip'}").temperature == pytest.approx(printed, rel=2e-3)


def test_a_folder_without_a_model_is_told(data_folder, tmp_path: Path, capsys) -> None:
    assert main(["--model", str(tmp_path), "--data", str(data_folder)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
