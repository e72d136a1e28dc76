"""What another network sees in the crops: kept beside them, and learnt by the image tower."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fastsam_batch.errors import InputError
from training.clip.__main__ import main
from training.clip.batches import Batch
from training.clip.crops import Crops, Row, all_crops, read_crops, write_crops
from training.clip.losses import losses
from training.clip.model import FILL_RGB
from training.clip.text import TextBank
from training.clip.views import Views, crop_views, read_views, write_views
from training.photographs import read_data


@pytest.fixture(scope="module")
def crops(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Crops:
    folder = tmp_path_factory.mktemp("crops")
    write_crops(all_crops(read_data(data_folder).train[:6], None, 48, FILL_RGB), folder, 48)
    return read_crops(folder)


def test_a_mask_s_two_crops_have_the_view_of_the_one_with_its_surroundings(
    crops: Crops, weights: Path, tmp_path: Path
) -> None:
    views = crop_views(crops, weights, 3)
    masked = np.flatnonzero([row.kind == "masked" for row in crops.rows])
    assert 0 < len(masked) < len(crops.rows) == len(views.features) == len(views.scores)
    np.testing.assert_array_equal(views.features[masked], views.features[masked + 1])
    with_context = Crops(crops.pixels[masked + 1], [Row("labelled", "coco-masks", "context")] * len(masked))
    alone = crop_views(with_context, weights, 3)
    np.testing.assert_allclose(views.scores[masked], alone.scores, atol=1e-3)
    np.testing.assert_allclose(views.scores, np.broadcast_to([0.002, 0.55, 0.002], (len(crops.rows), 3)), atol=0.01)
    seen = views.features[[row.kind == "context" for row in crops.rows]].astype(np.float32)
    np.testing.assert_allclose(seen.mean(0), 0, atol=0.01)
    assert seen.shape[1] == 128 + 256 and 0.5 < seen.std(0).max() < 1.01  # without training they hardly vary
    write_views(views, tmp_path / "views.npz")
    again = read_views(tmp_path / "views.npz")
    np.testing.assert_array_equal(again.features, views.features)
    np.testing.assert_array_equal(again.scores, views.scores)
    assert [path.name for path in tmp_path.iterdir()] == ["views.npz"]


def test_a_network_of_other_names_is_refused(crops: Crops, weights: Path) -> None:
    with pytest.raises(InputError, match="knows 3 classes, not the 80"):
        crop_views(crops, weights, 80)


def test_the_losses_are_least_where_the_views_are_foretold() -> None:
    vectors = torch.eye(4)[:2]
    unnamed = np.array([-1, -1])
    no = np.zeros(2, np.bool_)
    none = [np.zeros(0, np.int64)] * 2
    bank = TextBank(
        names=["a", "b", "c"],
        vectors=torch.eye(4)[:3],
        soft=torch.eye(3),
        near=torch.eye(3) > 0,
        maybe=torch.eye(3) > 0,
        coco=torch.arange(3),
        captions=torch.zeros(0, 4),
    )

    def of(foretold: list[list[float]], scores: list[list[float]]) -> dict[str, float]:
        views = Views(np.array([[1, 0], [0, 1]], np.float16), np.array(scores, np.float16))
        batch = Batch(np.zeros((2, 8, 8, 3), np.uint8), unnamed, no, no, no, none, none, views)
        parts = losses(vectors, torch.tensor(20.0), batch, bank, torch.Generator(), None, torch.tensor(foretold))
        return {name: float(part) for name, part in parts.items()}

    right, wrong = of([[2, 0], [0, 3]], [[0.9, 0, 0], [0, 0.8, 0]]), of([[0, 2], [3, 0]], [[0, 0.9, 0], [0, 0, 0.8]])
    assert right == {"features": pytest.approx(0, abs=1e-6), "scores": pytest.approx(0, abs=1e-3)}
    assert wrong == {"features": pytest.approx(1), "scores": pytest.approx(20, abs=0.01)}
    unsure = of([[2, 0], [0, 3]], [[0.9, 0, 0], [0, 0, 1e-3]])  # which weighs a thousandth
    assert 0 < unsure["scores"] < 0.05


def test_a_run_with_a_viewer_goes_on_where_it_stopped(data_folder: Path, weights: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(data_folder), "--output", str(tmp_path), "--batch", "16", "--size", "48"]
    arguments += ["--segmenter", "none", "--viewer", str(weights)]
    assert main([*arguments, "--steps", "3"]) == 0
    before = json.loads((tmp_path / "metrics.json").read_text())["losses"]
    assert (tmp_path / "crops" / "views.npz").is_file()
    assert main([*arguments, "--steps", "5", "--resume"]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["losses"][:3] == before
