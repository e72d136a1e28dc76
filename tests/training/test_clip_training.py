"""The CLIP recipe end to end, small: the loss falls, it goes on where it stopped, what it writes loads."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from fastsam_batch.errors import InputError
from fastsam_batch.models.embedder import Embedder
from training.clip.__main__ import main
from training.clip.evaluate import figures
from training.clip.export import export
from training.clip.model import FILL_RGB, as_input, build, configuration, encode_texts
from training.clip.model import published as published_model
from training.clip.train import mean_vectors, unit_vectors
from training.loop import save_published
from training.optimiser import orthogonalised

SMALL = ["--size", "48", "--segmenter", "none", "--threads", "1"]


@pytest.fixture(scope="module")
def published(data_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("clip")
    arguments = ["--data", str(data_folder), "--output", str(output), "--steps", "24", "--batch", "24", *SMALL]
    assert main(arguments) == 0
    return output


def test_the_loss_falls_and_the_record_is_whole(published):
    metrics = json.loads((published / "metrics.json").read_text())
    history = metrics["losses"]
    assert np.mean(history[-6:]) < 0.9 * np.mean(history[:3])
    assert metrics["steps"] == 24 and metrics["recipe"]["seed"] == 0
    assert set(metrics["data_sha256"]) == {"coco-masks", "coco-captions", "caltech101"}
    assert len(metrics["validation_files"]) == 40 and metrics["versions"]["torch"]
    assert 0 < metrics["validation"]["both"]["map"] <= 1
    scale = torch.load(published / "checkpoint.pt", weights_only=False)["scale"].exp()
    assert Embedder(f"local-dir:{published}").temperature == pytest.approx(float(scale), rel=1e-3) != math.exp(2.7)


def test_a_stopped_run_goes_on(data_folder, published):
    before = json.loads((published / "metrics.json").read_text())["losses"]
    arguments = [
        "--data",
        str(data_folder),
        "--output",
        str(published),
        "--steps",
        "26",
        "--batch",
        "24",
        *SMALL,
        "--resume",
    ]
    assert main(arguments) == 0
    metrics = json.loads((published / "metrics.json").read_text())
    assert metrics["steps"] == 26 and metrics["losses"][:24] == before


def test_the_export_loads_with_the_same_outputs(tmp_path):
    torch.manual_seed(0)
    config = configuration(64)
    model = build(config, None).eval()
    export(model, config, tmp_path)
    embedder = Embedder(f"local-dir:{tmp_path}")
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model.encode_image(as_input(crops, torch.device("cpu"))), dim=-1)
    np.testing.assert_allclose(embedder.embed_crops(crops), expected.numpy(), atol=3e-3)
    texts = ["a cat", "the left wheel of a motorcycle"]
    np.testing.assert_allclose(embedder.encode_texts(texts), encode_texts(model, texts).numpy(), atol=3e-3)
    assert embedder.licence == "AGPL-3.0" and embedder.image_size == 64
    np.testing.assert_array_equal(embedder.fill_rgb, FILL_RGB)


def test_a_published_folder_is_whole_while_it_is_written_again(tmp_path):
    """Who reads the files of one average while the next is published reads the old ones to their ends."""
    config = configuration(64)
    model = build(config, None)
    export(model, config, tmp_path)
    names = {"open_clip_config.json", "open_clip_model.safetensors"}
    before = {name: (tmp_path / name).read_bytes() for name in names}
    files = {name: (tmp_path / name).open("rb") for name in names}
    with torch.no_grad():
        model.visual.trunk.conv1[0].weight.zero_()
    export(model, config | {"licence": "none"}, tmp_path)
    for name, file in files.items():
        with file:
            assert file.read() == before[name] != (tmp_path / name).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == names


def test_weights_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file/clip\.safetensors"):
        save_published(torch.nn.Linear(2, 2), tmp_path / "file" / "clip.safetensors", {})


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonalised_keeps_directions(shape, half, monkeypatch):
    monkeypatch.setattr("training.optimiser.computes_in_bfloat16", lambda device: half)
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, values, right = torch.linalg.svd(orthogonalised(matrix), full_matrices=False)
    assert values.min() > 0.3 and values.max() < 1.4
    of_matrix = torch.linalg.svd(matrix, full_matrices=False)
    whole = of_matrix.U @ of_matrix.Vh
    assert torch.nn.functional.cosine_similarity((left @ right).flatten(), whole.flatten(), dim=0) > 0.98


def test_blocks_of_rows_are_orthogonalised_each_by_itself():
    matrix = torch.randn((300, 400), generator=torch.Generator().manual_seed(1))
    result = orthogonalised(matrix)
    parts = [orthogonalised(matrix[rows]) for rows in (slice(0, 128), slice(128, 256), slice(256, 300))]
    assert torch.equal(result, torch.cat(parts))
    assert torch.allclose(orthogonalised(matrix.T.contiguous()), result.T, atol=2e-2)


def test_figures_by_hand():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.1], [0.7, 0.3, 0.2]], np.float32)
    labels = np.array([0, 1, 2])
    found = figures(scores, labels, person=0)
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["nonperson_top1"] == pytest.approx(1 / 2)
    assert found["top5"] == 1
    assert found["map"] == pytest.approx(1)
    assert figures(scores, np.array([1, 0, 0]), person=0)["map"] == pytest.approx((1 / 3 + (1 / 2 + 2 / 3) / 2) / 2)


def test_a_student_follows_its_teachers(data_folder, published, tmp_path):
    """From a published image tower, a run that has teachers ends nearer to the mean of their vectors."""
    other = tmp_path / "other"
    common = ["--data", str(data_folder), "--crops", str(published / "crops"), *SMALL]
    assert main([*common, "--output", str(other), "--steps", "2", "--seed", "5"]) == 0
    teachers = [published_model(folder).to(memory_format=torch.channels_last) for folder in (published, other)]
    crops = torch.from_numpy(np.random.default_rng(0).normal(size=(16, 3, 48, 48)).astype(np.float32))
    aim = mean_vectors(teachers, crops)
    assert torch.allclose(aim.norm(dim=1), torch.ones(16))

    def after(steps):
        output = tmp_path / f"student-{steps}"
        arguments = [*common, "--output", str(output), "--steps", str(steps), "--batch", "32", "--lr", "1e-3"]
        assert main([*arguments, "--start", str(other), "--teachers", str(published), str(other)]) == 0
        return float((unit_vectors(published_model(output), crops) * aim).sum(1).mean())

    assert after(24) > after(1)
