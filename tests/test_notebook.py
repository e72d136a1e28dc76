"""The notebook in docs/ runs from top to bottom, and is kept without outputs."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import nbformat
import numpy as np
import pytest
from corpus.made_corpus import corpus_info, image_row, mask_rows, write, write_unit
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "corpus.ipynb"


@pytest.fixture
def corpus_uri(tmp_path: Path) -> str:
    """Three photographs, one of them broken, with embeddings of the built-in CLIP's length and its digests."""
    from fastsam_batch.models.embedder_files import find_embedder

    files, _ = find_embedder("builtin")
    dim = json.loads((files.main.parent / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"]
    info = corpus_info(dim)
    info["models"]["embedder"]["sha256"] = files.sha256()
    random = np.random.default_rng(5)
    images = [image_row("u", name, tmp_path) for name in ("coffee.png", "astronaut.png", "broken.png")]
    masks = [row for image in images for row in mask_rows(image, random, dim)]
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(info).encode())
    write_unit(uri, "u", images, masks, dim)
    return uri


@pytest.mark.timeout(300)
def test_the_notebook_runs(corpus_uri: str, monkeypatch) -> None:
    monkeypatch.setenv("FASTSAM_BATCH_CORPUS", corpus_uri)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in cells if cell.outputs or cell.execution_count], "clear the outputs before committing"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(ROOT)}}).execute()
    pictures = [
        output.data["image/png"] for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    sizes = {Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in pictures}
    assert len(pictures) == 3 and len(sizes) == 1
