"""The recipe is run from the repository's root, which is where `training` is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    from made_data import write_data

    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of three classes, as the made data has, with no training but a pull to its second."""
    import torch
    from ultralytics.nn.tasks import SegmentationModel

    torch.manual_seed(0)
    model = SegmentationModel("yolov8n-seg.yaml", nc=3, verbose=False)
    for branch in model.model[-1].cv3:
        torch.nn.init.zeros_(branch[-1].weight)
        branch[-1].bias.data = torch.tensor([-6.0, 0.2, -6.0])  # scores of .55
    path = tmp_path_factory.mktemp("weights") / "three.pt"
    torch.save({"model": model}, path)
    return path
