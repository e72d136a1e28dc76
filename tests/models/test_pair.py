"""Weights of a node are those that the corpus records."""

from __future__ import annotations

import pytest

from fastsam_batch.corpus.info import describe
from fastsam_batch.errors import InputError
from fastsam_batch.models.pair import check_weights
from fastsam_batch.models.weights import find_segmenter
from fastsam_batch.sources.demo import DemoSource
from fastsam_batch.unit import UnitOptions


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"as the driver has it")
    recorded = {"segmenter": {"sha256": find_segmenter(str(path)).sha256()}, "embedder": None}
    check_weights(recorded, {"path": str(path)}, None)
    check_weights(recorded, None, None)
    path.write_bytes(b"as a node has it")
    with pytest.raises(InputError, match=r"--segmenter .*w\.pt on the node .* put the same file on every node"):
        check_weights(recorded, {"path": str(path)}, None)


@pytest.fixture
def worker(monkeypatch):
    """Makes an actor of so many threads, for a corpus of other weights."""
    from fastsam_batch.pipeline import Job, SegmentUnits  # imports Ray, which chaos configures before

    monkeypatch.setenv("RAY_enable_metrics_collection", "0")
    models = {"segmenter": {"sha256": {"segmenter.safetensors": "0" * 64}}, "embedder": None}
    info = describe("/in", {}, models, None)
    unit = UnitOptions(crop="both", min_area=0, max_pixels=1)
    job = Job("/out", "run", info, DemoSource(), {"path": "builtin", "imgsz": 64}, None, unit)
    return lambda threads: SegmentUnits(job, "cpu", threads)


def test_a_worker_checks_what_it_loaded(worker):
    with pytest.raises(InputError, match="--segmenter builtin"):
        worker(1)


def test_a_worker_s_threads_take_a_core_each(worker, monkeypatch):
    def load(segmenter, embedder, device, threads, workers):
        raise InputError(f"{workers} workers of {threads}")

    monkeypatch.setattr("fastsam_batch.models.pair.load_models", load)
    with pytest.raises(InputError, match="3 workers of 1"):
        worker(3)
