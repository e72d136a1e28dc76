"""The segmentation network itself: built by Ultralytics from weights that were read safely, or exported."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fastsam_batch.errors import InputError, first_line
from fastsam_batch.models.checkpoint import read_checkpoint
from fastsam_batch.models.exported import (
    ExportedNetwork,
    check_outputs,
    engine_metadata,
    load_engine,
    load_onnx,
    load_openvino,
    own_metadata,
)
from fastsam_batch.models.head import COEFFICIENTS, Head
from fastsam_batch.models.merged import merge_prototypes

FASTSAM_DEFAULTS = {"imgsz": 1024, "conf": 0.4, "iou": 0.9}  # FastSAM, README and `Inference.py`
UNSTATED_LICENCE = "not stated in the weights"


@dataclass(frozen=True)
class Network:
    """A YOLOv8-seg on a device, with what its file says of it.

    `forward` takes float [b, 3, h, w] in [0, 1] RGB and a confidence, and gives each image's predictions
    [4 + classes + 32, anchors], those at least in which a score is above the confidence, and prototypes
    [b, 32, h / 4, w / 4]; h and w are multiples of `stride`, b at most `max_batch`. `defaults` has imgsz, conf and iou.
    `fixed_imgsz` where the file takes one input size only, a square.
    """

    forward: Callable[[torch.Tensor, float], tuple[Sequence[torch.Tensor], torch.Tensor]]
    stride: int
    defaults: dict[str, float]
    licence: str
    fixed_imgsz: int | None = None
    max_batch: int | None = None


def load_network(path: Path, device: torch.device, dtype: torch.dtype = torch.float32, workers: int = 1) -> Network:
    """Load `.safetensors` (with its architecture in the header), an Ultralytics `.pt`, or an export of either:
    `.onnx`, an OpenVINO folder, a TensorRT `.engine`. `dtype` is what it computes in; an export keeps its own.
    `workers` is how many threads may call it side by side without waiting for each other.

    Raises InputError for another kind, an unreadable file, weights that do not fit, or a runtime that is not
    installed.
    """
    loaders = {".onnx": load_onnx, ".engine": load_engine}
    if path.is_dir() or path.suffix in loaders:
        loader = partial(load_openvino, workers=workers) if path.is_dir() else loaders[path.suffix]
        exported = loader(path, device)
        check_outputs(path, exported, device)
        return _of_export(path, exported)
    module, header = load_module(path)
    for layer in module.modules():
        if type(getattr(layer, "act", None)) is torch.nn.SiLU:  # the one that all networks of Ultralytics share
            layer.act = torch.nn.SiLU(inplace=True)
    merge_prototypes(module.model[-1])
    module.to(device, dtype, memory_format=torch.channels_last)
    head = Head(module.model[-1])

    def forward(pixels: torch.Tensor, conf: float) -> tuple[list[torch.Tensor], torch.Tensor]:
        features = head_features(module, pixels.to(dtype))
        return head.predictions(features, conf), head.prototypes(features)

    return Network(
        forward=forward,
        stride=int(module.stride.max()),
        defaults=own_defaults(path, header),
        licence=header.get("licence", UNSTATED_LICENCE),
    )


def read_header(path: Path, imgsz: int | None = None) -> tuple[dict[str, float], str]:
    """Settings (imgsz, conf, iou) and licence of the weights at `path`, on a machine that need not be able to run
    them: an engine's are read from its header. `imgsz` as asked for. Raises InputError as `load_network` and
    `input_size`.
    """
    if path.suffix == ".engine":
        own = own_metadata(engine_metadata(path))
        defaults = own_defaults(path, own)
        return {**defaults, "imgsz": imgsz or defaults["imgsz"]}, str(own.get("licence", UNSTATED_LICENCE))
    network = load_network(path, torch.device("cpu"))
    return {**network.defaults, "imgsz": input_size(path, network, imgsz)}, network.licence


def input_size(path: Path, network: Network, imgsz: int | None) -> int:
    """The long side of a network's input: as asked for, or its own. Raises InputError where it takes another."""
    if imgsz is not None and network.fixed_imgsz not in (None, imgsz):
        raise InputError(
            f"--imgsz {imgsz}: {path} takes {network.fixed_imgsz} only; leave the option out or export it anew"
        )
    return imgsz or int(network.defaults["imgsz"])


def load_module(path: Path) -> tuple[Any, dict[str, Any]]:
    """The network of a `.safetensors` or `.pt` as a torch module on the CPU, float32, fused, in evaluation mode,
    and its header (`licence`; `imgsz`, `conf`, `iou` where the file states them). Raises InputError.
    """
    if path.suffix == ".safetensors":
        architecture, state, header = _read_safetensors(path)
    elif path.suffix == ".pt":
        architecture, state = read_checkpoint(path)
        header = {"licence": "AGPL-3.0"}  # Ultralytics and FastSAM publish theirs under it
    else:
        raise InputError(
            f"{path}: weights of an unknown kind; pass .safetensors, .pt, .onnx, .engine or an OpenVINO folder"
        )
    return _build(path, architecture, state), header


def head_features(module: Any, pixels: torch.Tensor) -> list[torch.Tensor]:
    """What the layers before a YOLO's head hand to it of images [b, 3, h, w]: a map [b, channels, h / s, w / s] for
    each of its strides (as Ultralytics' nn/tasks.py, `_predict_once`).
    """
    found: list[Any] = []
    last: Any = pixels
    *layers, head = module.model
    for layer in layers:
        if layer.f != -1:
            last = found[layer.f] if isinstance(layer.f, int) else [last if f == -1 else found[f] for f in layer.f]
        last = layer(last)
        found.append(last if layer.i in module.save else None)
    return [found[index] for index in head.f]


def _of_export(path: Path, exported: ExportedNetwork) -> Network:
    own = own_metadata(exported.metadata)
    defaults = own_defaults(path, own)
    fixed = exported.fixed_hw[0] if exported.fixed_hw else None

    def forward(pixels: torch.Tensor, _conf: float) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
        predictions, prototypes = exported.forward(pixels)
        return predictions.unbind(), prototypes

    if fixed:
        defaults["imgsz"] = fixed
    return Network(
        forward=forward,
        # An image in a fixed square is padded to all of it: a stride of the side's length.
        stride=fixed or int(exported.metadata.get("stride", 32)),
        defaults=defaults,
        licence=str(own.get("licence", UNSTATED_LICENCE)),
        fixed_imgsz=fixed,
        max_batch=exported.max_batch,
    )


def own_defaults(path: Path, header: dict[str, Any]) -> dict[str, float]:
    """imgsz, conf and iou as the weights' header states them, else FastSAM's. Raises InputError for what is none."""
    found = {}
    for name, default in FASTSAM_DEFAULTS.items():
        stated = header.get(name, default)
        found[name] = value = _number(stated)
        fits, wanted = (
            (value % 32 == 0, "a multiple of 32") if name == "imgsz" else (value <= 1, "a number from 0 to 1")
        )
        if not (value > 0 and fits):
            raise InputError(f"{path}: its metadata says {name} {stated!r}, not {wanted}; save it with that")
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


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
    classes = header.get("classes", "1")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", classes):
        raise InputError(f"{path}: its metadata says classes {classes!r}, not how many; save it with their number")
    architecture["nc"] = int(classes)
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
    if module.model[-1].nm != COEFFICIENTS:
        raise InputError(
            f"{path}: has {module.model[-1].nm} mask coefficients; pass a checkpoint of the usual {COEFFICIENTS}"
        )
    try:
        module.load_state_dict(state)  # copies, so float16 tensors arrive in float32
    except RuntimeError as error:
        raise InputError(f"{path}: its weights do not fit its architecture ({first_line(error)})") from error
    return module.fuse(verbose=False).eval().requires_grad_(False)
