"""Devices to run a test on: the CPU, and a GPU where there is one."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
    ),
]


class Largest(TorchDispatchMode):
    """Notes how many bytes the largest tensor has that is made meanwhile."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        tensors = (each for each in tree_leaves(made) if isinstance(each, torch.Tensor))
        self.bytes = max([self.bytes, *(each.untyped_storage().nbytes() for each in tensors)])
        return made
