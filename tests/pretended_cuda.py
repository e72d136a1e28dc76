"""A CUDA device for machines without one: its tensors lie in this machine's memory, and keep a device's rules.

What kernels of a GPU would compute, those of the CPU compute. What mixes tensors of both, or looks from here into the
device's memory, fails as it does there. A GPU's speed, memory, rounding and streams are not pretended.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

_DEVICE = torch.device("cuda", 0)
_COPIES = ("aten::_to_copy", "aten::copy_")
_INDEXED = ("aten::index", "aten::index_put_", "aten::_index_put_impl_")


class DeviceTensor(torch.Tensor):
    """A tensor on the device. `held` is what its memory holds."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> DeviceTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=_DEVICE,
        )
        made.held = held
        return made

    def tolist(self) -> Any:  # torch refuses to for a class of another's
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Kernels(TorchDispatchMode):
    """Brings to the device what is made there, too, of which no argument is a tensor of it."""

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = function._schema.name
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    on_device = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    here = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor)]
    if name in _INDEXED and isinstance(args[0], DeviceTensor):
        here = []  # places and numbers may come from here
    if on_device and name not in _COPIES and any(tensor.dim() for tensor in here):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu")
    if kwargs.get("device") is not None:
        stays = torch.device(kwargs["device"]).type == _DEVICE.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    else:
        stays = isinstance(args[0], DeviceTensor) if name == "aten::copy_" else bool(on_device)
    args, kwargs = tree_map(lambda leaf: leaf.held if isinstance(leaf, DeviceTensor) else leaf, (args, kwargs))
    found = function(*args, **kwargs)
    if not stays:
        return found
    same = {id(tensor.held): tensor for tensor in on_device}  # what works in place gives what it was given

    def placed(leaf: Any) -> Any:
        return same[id(leaf)] if id(leaf) in same else DeviceTensor(leaf)

    return tree_map(lambda leaf: placed(leaf) if isinstance(leaf, torch.Tensor) else leaf, found)


@contextlib.contextmanager
def pretended_cuda() -> Iterator[None]:
    """While it lasts there is a device `cuda`, in threads that begin meanwhile too.

    Models must be made, and used, within it.
    """
    of_thread = threading.Thread.run

    def run_thread(thread: threading.Thread) -> None:  # modes are a thread's own
        with _modes():
            of_thread(thread)

    with contextlib.ExitStack() as stack:
        for name, instead in {
            "torch.cuda._lazy_init": lambda: None,
            "torch.cuda.is_available": lambda: True,
            "torch.cuda.is_bf16_supported": lambda including_emulation=True: True,
            "torch.cuda.empty_cache": lambda: None,
            "torch.inference_mode": _no_grad,  # in which no views of a class of another's can be made
            "threading.Thread.run": run_thread,
        }.items():
            stack.enter_context(patch(name, instead))
        torch._C._ensureCUDADeviceGuardSet()
        # A module that goes to the device gets parameters anew: the memory of the old ones is here.
        overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwritten)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.enter_context(_modes())
        yield


@contextlib.contextmanager
def _modes() -> Iterator[None]:
    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor makes its numbers here and then moves them
    try:
        with _Kernels():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)


def _no_grad(mode: bool | Callable[..., Any] = True) -> Any:
    return torch.no_grad()(mode) if callable(mode) else torch.no_grad()
