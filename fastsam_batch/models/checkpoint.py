"""Read a pickled Ultralytics checkpoint without running anything that is in it.

A `.pt` of FastSAM pickles a whole network object. Here its classes are never imported: every one on the
allow-list unpickles to an inert shell that keeps its state and does nothing, and a name outside the list
refuses the file. The state dict and the architecture are then read off the shells, and the network is
built anew from them. (torch's `weights_only` with Ultralytics' classes allowed would not do: it may call
those classes, and building one from a crafted architecture reaches `eval`.)
"""

from __future__ import annotations

import collections
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from fastsam_batch.errors import InputError

# Modules whose classes may appear, as shells. torch.nn and ultralytics hold layers, losses, options.
_SHELL_MODULES = ("torch.nn", "ultralytics")
_SHELL_NAMES = {
    # Segmentation heads of FastSAM's time, and those of YOLO11's weights, keep `Detect.forward` as an attribute.
    ("__builtin__", "getattr"),
    ("builtins", "getattr"),
    ("datetime", "datetime"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib._local", "PosixPath"),  # Python 3.13's
    ("pathlib._local", "WindowsPath"),
    ("torch", "device"),
    ("types", "SimpleNamespace"),
}
# What tensors are made of: these are called for real.
_REAL_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
}
_BUILTINS = {"set": set, "frozenset": frozenset, "slice": slice, "range": range, "complex": complex}
_ACTIVATIONS = (None, "nn.SiLU()", "torch.nn.SiLU()", "nn.ReLU()", "torch.nn.ReLU()")
_LAYER_CALLS = {"nn.Upsample", "nn.ConvTranspose2d", "nn.Identity", "nn.MaxPool2d"}
_LAYER_MODULES = "ultralytics.nn.modules."
_NO_LAYERS = {"TorchVision"}  # downloads weights when it is built
_ZIP = b"PK\x03\x04"
_OF_TORCHSCRIPT = "constants.pkl"  # torch/serialization.py, `_is_torchscript_zip`


class _Shell:
    """Stands for an object of an allowed class: holds its state, has no behaviour."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Shell:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        self.state = {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REAL_NAMES:
            return _REAL_NAMES[module, name]
        if module in ("builtins", "__builtin__") and name in _BUILTINS:
            return _BUILTINS[name]
        if module == "torch" and isinstance(value := getattr(torch, name, None), torch.dtype):
            return value
        if module == "torch" and name.endswith("Storage") and isinstance(getattr(torch, name, None), type):
            return getattr(torch, name)
        in_module = any(module == allowed or module.startswith(allowed + ".") for allowed in _SHELL_MODULES)
        if (in_module and "." not in name) or (module, name) in _SHELL_NAMES:
            return type(name, (_Shell,), {"__module__": module})
        raise pickle.UnpicklingError(f"{module}.{name}")


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Architecture (an Ultralytics model YAML as a dict) and state dict of a `.pt` file.

    The averaged weights (`ema`) are taken where the file has them, as Ultralytics does. Raises InputError
    for a file that is not such a checkpoint, or that names a class outside the allow-list.
    """
    records = _records(path)
    if records is None:
        raise InputError(f"{path}: not a PyTorch checkpoint of version 1.6 or later; save it again with torch.save")
    if _OF_TORCHSCRIPT in records:  # torch.load would hand it to torch.jit.load, which runs what it defines
        raise InputError(f"{path}: refused, it is a TorchScript program; pass the checkpoint that it was made from")
    safe_pickle = SimpleNamespace(Unpickler=_Unpickler, __name__="safe_pickle")
    try:
        loaded = torch.load(path, map_location="cpu", pickle_module=safe_pickle, weights_only=False)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, it holds {error}, which is not on the allow-list of a segmentation checkpoint; "
            "export the weights to safetensors where you trust the file"
        ) from error
    except (RuntimeError, EOFError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: not a readable PyTorch checkpoint ({type(error).__name__}: {error})") from error
    model = loaded
    if isinstance(loaded, dict):
        model = loaded.get("model") if loaded.get("ema") is None else loaded["ema"]
    if not isinstance(model, _Shell) or not isinstance(model.state.get("yaml"), dict):
        raise InputError(f"{path}: holds no Ultralytics network under 'model' or 'ema'; pass a YOLOv8-seg checkpoint")
    architecture = model.state["yaml"]
    _check_architecture(path, architecture)
    state = _tensors(model)
    return architecture, {name: tensor.detach() for name, tensor in state.items()}


def _records(path: Path) -> list[str] | None:
    """Names of what is in a checkpoint as torch's own reader sees them; None where torch would take it for another
    kind of file.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                return None
        return list(torch._C.PyTorchFileReader(str(path)).get_all_records())
    except (OSError, RuntimeError):
        return None


def _tensors(module: _Shell, prefix: str = "") -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    hidden = module.state.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        for name, value in (module.state.get(group) or {}).items():
            if isinstance(value, torch.Tensor) and name not in hidden:
                found[prefix + name] = value
    for name, child in (module.state.get("_modules") or {}).items():
        if isinstance(child, _Shell):
            found.update(_tensors(child, f"{prefix}{name}."))
    return found


def _check_architecture(path: Path, architecture: dict[str, Any]) -> None:
    """Refuse an architecture with anything but layer names and plain numbers: parts of it are evaluated."""
    if problem := next(_problems(architecture), None):
        raise InputError(f"{path}: refused, its architecture holds {problem}; pass a YOLOv8-seg checkpoint")


def _problems(architecture: dict[str, Any]) -> Iterator[str]:
    if architecture.get("activation") not in _ACTIVATIONS or architecture.get("act") not in _ACTIVATIONS:
        yield "an activation that is not a plain one"
    parts = [architecture.get(part) or [] for part in ("backbone", "head")]
    if not all(isinstance(part, (list, tuple)) for part in parts):
        yield "a backbone or head that is no list of layers"
    elif not any(parts):
        yield "no layers"
    for row in (row for part in parts if isinstance(part, (list, tuple)) for row in part):
        if not (isinstance(row, (list, tuple)) and len(row) == 4 and isinstance(row[2], str)):
            yield "a layer that is not [from, repeats, name, arguments]"
        elif not _is_layer(row[2]):
            yield f"the layer name {row[2]!r}"
        elif not isinstance(row[3], (list, tuple)) or not all(_plain(value) for value in (row[0], row[1], *row[3])):
            yield f"an argument of {row[2]} that is not a plain value"


def _is_layer(name: str) -> bool:
    """True for what builds a layer and does nothing else: Ultralytics calls whatever name of its module is given."""
    from ultralytics.nn import tasks

    kind = getattr(tasks, name, None)
    is_module = isinstance(kind, type) and issubclass(kind, torch.nn.Module)
    return name in _LAYER_CALLS or (is_module and kind.__module__.startswith(_LAYER_MODULES) and name not in _NO_LAYERS)


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return value.isidentifier() or value == "None"
    if isinstance(value, (list, tuple)):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float))
