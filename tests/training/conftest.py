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
