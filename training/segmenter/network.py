"""The network to be trained, and the file it is published in."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fastsam_batch.models.weights import find_segmenter
from training.loop import save_published

LICENCE = "AGPL-3.0"


def build(form: str, start: str) -> Any:
    """A YOLOv8-seg with one class in training mode; `form` is n, s, m, l or x, `start` none, builtin or a file.

    Raises InputError where there is no such file, RuntimeError where its weights do not fit the form.
    """
    from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

    architecture = yaml_model_load(f"yolov8{form}-seg.yaml")
    architecture["nc"] = 1
    model = SegmentationModel(architecture, verbose=False)
    if start != "none":
        model.load_state_dict(load_file(find_segmenter(start).main))
    return model.requires_grad_(True).train()


def blended(model: torch.nn.Module, start: dict[str, torch.Tensor], share: float) -> torch.nn.Module:
    """A copy whose weights are `share` of `start`'s and the rest of the model's.

    Method: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models": weights near those they began from
    can be averaged with them.
    """
    mixed = deepcopy(model)
    with torch.no_grad():
        for name, tensor in mixed.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(start[name].to(tensor), share)
    return mixed


def export(model: torch.nn.Module, path: Path, form: str, defaults: dict[str, float]) -> None:
    """Write fp16 safetensors that the segmenter loads; `defaults` has imgsz, conf and iou.

    Raises InputError where they cannot be written.
    """
    header = {"architecture": f"yolov8{form}-seg.yaml", "classes": "1", "licence": LICENCE}
    save_published(model, path, header | {name: f"{value:g}" for name, value in defaults.items()})
