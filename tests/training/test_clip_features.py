"""What another network sees in the crops: kept beside them, and learnt by the image tower."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.clip.__main__ import main
from training.clip.batches import Batch
from training.clip.crops import Crops, all_crops, read_crops, write_crops
from training.clip.features import crop_features, kept_features
from training.clip.losses import losses
from training.clip.model import FILL_RGB
from training.clip.text import TextBank
from training.photographs import read_data


@pytest.fixture(scope="module")
def crops(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Crops:
    folder = tmp_path_factory.mktemp("crops")
    write_crops(all_crops(read_data(data_folder).train[:6], None, 48, FILL_RGB), folder, 48)
    return read_crops(folder)


def test_a_mask_s_two_crops_have_the_features_of_the_one_with_its_surroundings(
    crops: Crops, weights: Path, tmp_path: Path
) -> None:
    features = crop_features(crops, weights)
    masked = np.flatnonzero([row.kind == "masked" for row in crops.rows])
    assert 0 < len(masked) < len(crops.rows) and features.shape == (len(crops.rows), 128 + 256)
    np.testing.assert_array_equal(features[masked], features[masked + 1])
    seen = features[[row.kind == "context" for row in crops.rows]].astype(np.float32)
    np.testing.assert_allclose(seen.mean(0), 0, atol=0.01)
    assert 0.5 < seen.std(0).max() < 1.01  # without training they hardly vary
    assert len(np.unique(seen, axis=0)) == len(seen)
    kept = kept_features(tmp_path / "features.npy", crops, weights)
    np.testing.assert_array_equal(kept, features)
    assert [path.name for path in tmp_path.iterdir()] == ["features.npy"]
    np.testing.assert_array_equal(kept_features(tmp_path / "features.npy", crops, tmp_path / "gone.pt"), features)


def test_the_loss_is_least_where_the_features_are_foretold() -> None:
    no, none = np.zeros(2, np.bool_), [np.zeros(0, np.int64)] * 2
    same = torch.eye(3) > 0
    bank = TextBank(["a", "b", "c"], torch.eye(4)[:3], torch.eye(3), same, same, torch.arange(3), torch.zeros(0, 4))
    features = np.array([[1, 0], [0, 1]], np.float16)
    batch = Batch(np.zeros((2, 8, 8, 3), np.uint8), np.array([-1, -1]), no, no, no, none, none, features)

    def of(foretold: list[list[float]]) -> dict[str, float]:
        parts = losses(
            torch.eye(4)[:2], torch.tensor(20.0), batch, bank, torch.Generator(), None, torch.tensor(foretold)
        )
        return {name: float(part) for name, part in parts.items()}

    assert of([[2.0, 0], [0, 3]]) == {"features": pytest.approx(0, abs=1e-6)}
    assert of([[0, 2.0], [3, 0]]) == {"features": pytest.approx(1)}
    assert of([[-2.0, 0], [0, 1]]) == {"features": pytest.approx(1)}


def test_a_run_with_features_goes_on_where_it_stopped(data_folder: Path, weights: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(data_folder), "--output", str(tmp_path), "--batch", "16", "--size", "48"]
    arguments += ["--segmenter", "none", "--threads", "1", "--features", str(weights)]
    assert main([*arguments, "--steps", "3"]) == 0
    before = json.loads((tmp_path / "metrics.json").read_text())["losses"]
    assert (tmp_path / "crops" / "features.npy").is_file()
    assert main([*arguments, "--steps", "5", "--resume"]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["losses"][:3] == before
