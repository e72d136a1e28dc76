"""Checkpoints of the official form, made on the spot from the built-in weights."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from ultralytics.nn.modules import Detect
from ultralytics.nn.tasks import SegmentationModel

from fastsam_batch.models.weights import BUILTIN_FOLDER


def official_checkpoint(path: Path, half: bool = True) -> Path:
    """A pickled Ultralytics network under `model`, as `FastSAM-s.pt` is, holding the built-in weights."""
    model = SegmentationModel("yolov8n-seg.yaml", nc=1, verbose=False)
    model.load_state_dict(load_file(BUILTIN_FOLDER / "segmenter.safetensors"))
    model.names = {0: "object"}
    model.args = {"task": "segment", "imgsz": 416}
    # Segmentation heads of that time kept it, and a pickle of a function of a class is a call of getattr.
    model.model[-1].detect = Detect.forward
    model.criterion = SimpleNamespace(device=torch.device("cpu"))  # as a training leaves one
    model = copy.deepcopy(model)
    torch.save(
        {
            "epoch": -1,
            "best_fitness": None,
            "model": model.half() if half else model,
            "ema": None,
            "updates": None,
            "optimizer": None,
            "train_args": {"task": "segment", "mode": "train", "imgsz": 416, "overlap_mask": True},
            "date": "2023-07-03T10:00:00",
            "version": "8.0.120",
        },
        path,
    )
    return path
