"""The segmentation network itself, built by Ultralytics from weights that were read safely."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastsam_batch.errors import InputError
from fastsam_batch.models.checkpoint import read_checkpoint

FASTSAM_DEFAULTS = {"imgsz": 1024, "conf": 0.4, "iou": 0.9}  # FastSAM, README and `Inference.py`
UNSTATED_LICENCE = "not stated in the weights"


@dataclass(frozen=True)
class Network:
    """A YOLOv8-seg in float32, fused and in evaluation mode, with what its file says of it.

    Called with float [b, 3, h, w] in [0, 1] RGB it gives ((predictions [b, 4 + classes + 32, anchors],
    prototypes [b, 32, h / 4, w / 4]), rest). `defaults` has imgsz, conf and iou.
    """

    module: Any
    stride: int
    defaults: dict[str, float]
    licence: str


def load_network(path: Path) -> Network:
    """Load `.safetensors` (with its architecture in the header) or an Ultralytics `.pt`.

    Raises InputError for another suffix, an unreadable file, or weights that do not fit.
    """
    if path.suffix == ".safetensors":
        architecture, state, header = _read_safetensors(path)
    elif path.suffix == ".pt":
        architecture, state = read_checkpoint(path)
        header = {"licence": "AGPL-3.0"}  # Ultralytics and FastSAM publish theirs under it
    else:
        raise InputError(f"{path}: weights of an unknown kind; pass .safetensors or .pt")
    module = _build(path, architecture, state)
    defaults = {key: float(header.get(key, value)) for key, value in FASTSAM_DEFAULTS.items()}
    return Network(
        module=module,
        stride=int(module.stride.max()),
        defaults=defaults,
        licence=header.get("licence", UNSTATED_LICENCE),
    )


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    if "architecture" not in header:
        raise InputError(
            f"{path}: its header names no `architecture` (such as yolov8s-seg.yaml); save it with metadata "
            '{"architecture": ..., "classes": ...}, or pass a .pt'
        )
    name = header["architecture"]
    if not re.fullmatch(r"yolov8[nslmx]-seg\.yaml", name):  # Ultralytics would fetch other names from the network
        raise InputError(f"{path}: its architecture {name!r} is not one of yolov8n-seg.yaml to yolov8x-seg.yaml")
    from ultralytics.nn.tasks import yaml_model_load

    architecture = yaml_model_load(name)
    architecture["nc"] = int(header.get("classes", 1))
    return architecture, state, header


def _build(path: Path, architecture: dict[str, Any], state: dict[str, torch.Tensor]) -> Any:
    from ultralytics.nn.modules import Segment
    from ultralytics.nn.tasks import SegmentationModel

    try:
        module = SegmentationModel(architecture, verbose=False)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: its architecture cannot be built ({type(error).__name__}: {error})") from error
    if not isinstance(module.model[-1], Segment):
        raise InputError(f"{path}: not a segmentation network; pass a -seg checkpoint")
    try:
        module.load_state_dict(state)  # copies, so float16 tensors arrive in float32
    except RuntimeError as error:
        raise InputError(f"{path}: its weights do not fit its architecture ({str(error).splitlines()[0]})") from error
    return module.fuse(verbose=False).eval().requires_grad_(False)
