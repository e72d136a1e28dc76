"""The benchmarks run and measure what they say, on a photograph or two."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Benchmarks import one another as scripts do; the number of torch's threads is put back."""
    import torch

    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_stage_profile_does_the_same_work_on_both_sides(tmp_path):
    import stages

    options = argparse.Namespace(images=2, large_images=1, long_side=None, crop="both", masks=100, rounds=1)
    found = stages.profile("builtin", options, (1e10, 1e11))
    assert found["masks_per_image"] == found["reference_masks_per_image"] > 0
    for side in ("reference_ms", "our_ms"):
        assert all(row[side] > 0 for row in found["stages"].values())
    for stage, row in found["stages"].items():
        assert (row["floor_ms"] > 0) == (stage != "other")
    table = stages.text_table(found)
    assert len(table.splitlines()) == 2 + len(stages.STAGES) + 1
    stages.plot([found, found], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_made_outputs_hold_as_many_masks_as_were_asked_for():
    import made_models

    from fastsam_batch.models.segmenter import keep_best

    predictions, prototypes = made_models.made_output((480, 640), 1024, 100)
    assert predictions.shape == (1, 37, (96 * 128) + (48 * 64) + (24 * 32)) and prototypes.shape == (1, 32, 192, 256)
    assert int((predictions[0, 4] > 0.4).sum()) == 100 * made_models.CANDIDATES
    assert len(keep_best(predictions[0], conf=0.4, iou=0.9, max_masks=300)) == 100


def test_the_gpu_script_can_be_tried_without_a_gpu(monkeypatch, capsys):
    import gpu

    few = ["--images", "1", "--loop-images", "1", "--rounds", "1", "--batch-size", "2", "--long-side", "240"]
    tried = [
        "--device",
        "cpu",
        "--sizes",
        "builtin",
        "--modes",
        "pool",
        "--precisions",
        "float32",
        "--without-ray",
        *few,
    ]
    monkeypatch.setattr("sys.argv", ["gpu.py", *tried])
    gpu.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    (run,) = summary["runs"]
    assert (run["segmenter"], run["mode"], run["precision"]) == ("builtin", "pool", "float32")
    assert run["masks_per_image"] == run["loop_masks_per_image"] > 0
    assert run["our_images_per_second"] > 0 and run["loop_images_per_second"] > 0
    assert summary["tensorrt"] == [] and summary["ray"] == {"skipped": "--without-ray"}


@pytest.mark.parametrize("name", ["scan_rate", "index_recall"])
def test_a_made_corpus_can_be_searched(name: str, monkeypatch, capsys, tmp_path):
    options = {
        "scan_rate": ["--side", "scan", "--queries", "1", "9"],
        "index_recall": ["--clusters", "5", "--queries", "6"],
    }
    argv = [f"{name}.py", "--corpus", str(tmp_path / "made"), "--rows", "20000", "--dim", "16", *options[name]]
    monkeypatch.setattr("sys.argv", argv)
    importlib.import_module(name).main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    if name == "scan_rate":
        assert all(seconds > 0 for seconds in summary["seconds"].values())
    else:
        assert all(found["recall"] > 0.9 and found["short"] == 0 for found in summary["results"].values())
