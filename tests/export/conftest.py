"""The made corpus with one more unit of masks that formats find hard."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus.made_corpus import MadeCorpus
from export.hard_masks import add_hard_unit


@pytest.fixture
def hard(made: MadeCorpus, tmp_path: Path) -> MadeCorpus:
    return add_hard_unit(made, tmp_path / "photographs")
