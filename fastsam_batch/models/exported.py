"""Segmenters in exported form: ONNX Runtime, OpenVINO and TensorRT behind one call.

What Ultralytics exports is read, by this package's `export-model` or by anyone: one input of images, two
outputs. ONNX and OpenVINO files are data. A TensorRT engine is a program for the GPU that TensorRT runs as it
is: use only engines of your own making.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch

from fastsam_batch.errors import InputError, first_line
from fastsam_batch.models.head import COEFFICIENTS
from fastsam_batch.models.weights import openvino_files

# float [b, 3, h, w] to predictions [b, 4 + classes + 32, anchors] and prototypes [b, 32, h / 4, w / 4].
Forward: TypeAlias = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

OWN_KEY = "fastsam_batch"  # our defaults, licence and source, beside Ultralytics' own metadata
_OUTPUTS = 2
_AXES = 4  # of images
_PROBE, _FINEST_STRIDE = 64, 8  # pixels
_BOX = 4  # numbers of a box
_COUNT = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True)
class ExportedNetwork:
    """A runtime's network. `metadata` as the file has it; `fixed_hw` and `max_batch` where its input has limits."""

    forward: Forward
    metadata: dict[str, Any]
    fixed_hw: tuple[int, int] | None
    max_batch: int | None


def check_device(path: Path, device: str) -> None:
    """Raises InputError where the network at `path` cannot run on `device`, `cpu` or `cuda`."""
    if path.suffix == ".engine" and device != "cuda":
        raise InputError(f"{path}: a TensorRT engine needs a CUDA device, and this run has none; use .pt or .onnx")
    if path.is_dir() and device == "cuda":
        raise InputError(f"{path}: OpenVINO does not run on CUDA; use --device cpu, or an .engine or .onnx")


def load_onnx(path: Path, device: torch.device) -> ExportedNetwork:
    """An `.onnx` on ONNX Runtime, on as many CPU threads as torch has. Raises InputError."""
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise _missing(path, "onnx") from error
    provider = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise InputError(f"{path}: the installed ONNX Runtime has no CUDA; install onnxruntime-gpu or use --device cpu")
    if device.type == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # torch's own CUDA libraries, which it would not find
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # its exceptions share no base but this
        raise InputError(f"{path}: not a readable ONNX network ({first_line(error)})") from error
    if provider not in session.get_providers():  # it goes on on the CPU where CUDA does not start
        raise InputError(f"{path}: ONNX Runtime could not start CUDA, as it says above; mend that or use --device cpu")
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _check_form(path, len(inputs), len(outputs))
    name, kind = inputs[0].name, torch.float16 if "float16" in inputs[0].type else torch.float32

    def forward(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = session.run(None, {name: pixels.to("cpu", kind).contiguous().numpy()})
        return _in_order([torch.from_numpy(value).to(pixels.device) for value in found])

    shape = [side if isinstance(side, int) else None for side in inputs[0].shape]
    return _network(path, forward, _checked(path, dict(session.get_modelmeta().custom_metadata_map)), shape)


def load_openvino(folder: Path, device: torch.device, workers: int = 1) -> ExportedNetwork:
    """A `…_openvino_model` folder on the CPU, on as many threads as torch has for each of `workers` that call it side
    by side. Raises InputError.
    """
    check_device(folder, device.type)
    network, _, about = openvino_files(folder)
    try:
        import openvino  # type: ignore[import-untyped]
    except ImportError as error:
        raise _missing(folder, "openvino") from error
    from ultralytics.utils import YAML

    try:
        # One stream would take one call after the other. Pinned threads would share cores with those of other actors.
        threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads() * workers, "NUM_STREAMS": workers}
        threads["ENABLE_CPU_PINNING"] = False
        # Float32 as torch computes, also where the processor has something shorter.
        compiled = openvino.Core().compile_model(str(network), "CPU", {**threads, "INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise InputError(f"{network}: not a readable OpenVINO network ({first_line(error)})") from error
    _check_form(folder, len(compiled.inputs), len(compiled.outputs))

    def forward(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        request = compiled.create_infer_request()
        found = request.infer([pixels.float().contiguous().numpy()], share_inputs=True)
        return _in_order([torch.from_numpy(found[place].copy()) for place in range(_OUTPUTS)])

    shape = [None if side.is_dynamic else side.get_length() for side in compiled.inputs[0].partial_shape]
    try:
        metadata = YAML.load(about)
    except (ValueError, OSError) as error:
        raise InputError(f"{about}: cannot be read ({first_line(error)}); export the network anew") from error
    if not isinstance(metadata, dict):
        raise InputError(f"{about}: holds no names with values; export the network anew")
    return _network(folder, forward, _checked(folder, metadata), shape)


def load_engine(path: Path, device: torch.device) -> ExportedNetwork:
    """A TensorRT `.engine`, which runs on the kind of GPU it was made on only. Raises InputError."""
    check_device(path, device.type)
    if find_spec("tensorrt") is None:
        raise InputError(f"{path}: needs the package tensorrt in the version that made it; install it")
    from ultralytics.nn.autobackend import AutoBackend

    try:
        backend = AutoBackend(str(path), device=device)
    except Exception as error:  # TensorRT's exceptions share no base but this
        raise InputError(f"{path}: not an engine for this GPU and TensorRT ({first_line(error)})") from error

    metadata = engine_metadata(path)
    batch = int(metadata.get("batch", 1))
    dynamic = bool(getattr(backend, "dynamic", False))
    shape: list[int | None] = [None, 3, None, None] if dynamic else [batch, 3, *_imgsz(metadata)]
    return _network(path, engine_forward(backend), metadata, shape, batch)


def engine_forward(backend: Any) -> Forward:
    """The call of Ultralytics' backend of an engine: it reads its input by address, row by row, and writes every batch
    to the same outputs.
    """

    def forward(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.cuda.device(pixels.device) if pixels.is_cuda else nullcontext():
            found = backend((pixels.half() if backend.fp16 else pixels.float()).contiguous())
            return _in_order([value.clone() for value in found])

    return forward


def engine_metadata(path: Path) -> dict[str, Any]:
    """The JSON that Ultralytics puts before an engine: its length in 4 bytes, then itself. Raises InputError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(4), "little")
        try:
            metadata = json.loads(file.read(length)) if length < 1 << 20 else None
        except ValueError:
            metadata = None
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: not an engine as Ultralytics exports it; make one by export-model --format engine")
    return _checked(path, metadata)


def _network(
    path: Path, forward: Forward, metadata: dict[str, Any], shape: list[int | None], most: int | None = None
) -> ExportedNetwork:
    """Of the input's `shape`, None where it is free; `most` images go in where their number is."""
    task = metadata.get("task", "segment")
    if task != "segment":
        raise InputError(f"{path}: made for the task {task!r}; pass a segmentation network")
    if len(shape) != _AXES or shape[1] not in (3, None):
        told = ", ".join("any" if side is None else str(side) for side in shape)
        raise InputError(f"{path}: its input is [{told}], not images as [batch, 3, height, width]; export it as those")
    batch, _, height, width = shape
    fixed = None if height is None or width is None else (height, width)
    if fixed and fixed[0] != fixed[1]:
        raise InputError(
            f"{path}: its input is fixed to {fixed[1]} x {fixed[0]} pixels; export it with dynamic=True or a square one"
        )
    return ExportedNetwork(_filled(forward, batch) if batch else forward, metadata, fixed, batch or most)


def _checked(path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata as it is. Raises InputError for numbers that are none, of Ultralytics and of export-model."""
    for name in ("stride", "batch"):
        stated = str(metadata.get(name, 1))
        if not _COUNT.fullmatch(stated):
            raise InputError(f"{path}: its metadata says {name} {stated[:60]!r}, not a whole number; export it anew")
    try:
        own_metadata(metadata)
        _imgsz(metadata)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: its metadata cannot be read ({first_line(error)}); export it anew") from error
    return metadata


def _filled(forward: Forward, batch: int) -> Forward:
    """The call of a network that takes `batch` images and no fewer: what is missing is the last one again."""

    def filled(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(pixels)
        if count < batch:
            pixels = torch.cat([pixels, pixels[-1:].expand(batch - count, -1, -1, -1)])
        predictions, prototypes = forward(pixels)
        return predictions[:count], prototypes[:count]

    return filled


def check_outputs(path: Path, network: ExportedNetwork, device: torch.device) -> None:
    """Raise InputError where an image gives other outputs than those of the raw head, such as of an export with NMS.

    That has two outputs as well, [b, 300, 38] and the prototypes, which would be read as other numbers.
    """
    height, width = network.fixed_hw or (_PROBE, _PROBE)
    pixels = torch.zeros((network.max_batch or 1, 3, height, width), device=device)
    try:
        predictions, prototypes = network.forward(pixels)
    except Exception as error:  # the runtimes' exceptions share no base but this
        raise InputError(
            f"{path}: fails on {width} x {height} pixels in float32 ({first_line(error)}); pass a YOLOv8-seg export"
        ) from error
    planes = prototypes.shape[1] if prototypes.ndim == _AXES else COEFFICIENTS
    if planes != COEFFICIENTS:
        raise InputError(f"{path}: has {planes} mask coefficients; pass an export of the usual {COEFFICIENTS}")
    finest = (height // _FINEST_STRIDE) * (width // _FINEST_STRIDE)
    raw = (
        predictions.ndim == _AXES - 1 and predictions.shape[1] > _BOX + COEFFICIENTS and predictions.shape[2] >= finest
    )
    if not raw or prototypes.shape[2:] != (height // 4, width // 4):
        raise InputError(
            f"{path}: gives {list(predictions.shape)} and {list(prototypes.shape)} for {width} x {height} pixels, not "
            "every anchor's box; export it without NMS (nms=False, end2end=False)"
        )


def own_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """What export-model wrote of the weights (`imgsz`, `conf`, `iou`, `licence`, `source`), as far as it is there."""
    own = metadata.get(OWN_KEY, {})
    loaded = json.loads(own) if isinstance(own, str) else own
    return loaded if isinstance(loaded, dict) else {}


def _imgsz(metadata: dict[str, Any]) -> list[int]:
    sides = metadata.get("imgsz", 640)
    sides = ast.literal_eval(sides) if isinstance(sides, str) else sides
    return [sides, sides] if isinstance(sides, int) else list(sides)


def _in_order(found: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions have three axes and prototypes four, whatever order a runtime keeps."""
    predictions, prototypes = sorted(found[:_OUTPUTS], key=lambda value: value.ndim)
    return predictions, prototypes


def _check_form(path: Path, inputs: int, outputs: int) -> None:
    if inputs != 1 or outputs != _OUTPUTS:
        raise InputError(
            f"{path}: has {inputs} inputs and {outputs} outputs where a YOLOv8-seg export without NMS has 1 and 2"
        )


def _missing(path: Path, extra: str) -> InputError:
    return InputError(f"{path}: needs the extra {extra}: pip install 'fastsam-batch[{extra}]'")
