"""The built-in segmenter in the form that Ultralytics' FastSAM() loads, made on the spot."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

from fastsam_batch.models.weights import BUILTIN_FOLDER


def fastsam_checkpoint(path: Path) -> Path:
    """A pickled network under `model`, as `FastSAM-s.pt` is, at `path`."""
    with safe_open(BUILTIN_FOLDER / "segmenter.safetensors", framework="pt") as file:
        header = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    architecture = yaml_model_load(header["architecture"])
    architecture["nc"] = int(header["classes"])
    model = SegmentationModel(architecture, verbose=False)
    model.load_state_dict(state)
    model.names = {0: "object"}
    model.args = {"task": "segment", "imgsz": int(header["imgsz"])}
    torch.save({"model": model, "ema": None, "train_args": {"task": "segment", "mode": "train"}}, path)
    return path
