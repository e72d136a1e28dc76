"""Batch norms folded into the convolutions before them: the same function in fewer passes over its features."""

from __future__ import annotations

import threading

import torch
from torch import nn
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval

_UNTRACEABLE = (TraceError, TypeError, ValueError, RuntimeError, AttributeError)
_one_trace = threading.Lock()  # while it traces, torch.fx patches modules of the whole process


def fold_batch_norms(network: nn.Module) -> int:
    """Fold what can be, in place, and say how many; `network` is in evaluation mode and stays as callable as before.

    A batch norm is folded where its input is a convolution's output that nothing else reads, as the traced graph
    shows, so the order in which modules were registered does not matter. A network that torch.fx cannot trace keeps
    all of its own.
    """
    if not any(type(module) is nn.BatchNorm2d for module in network.modules()):
        return 0
    try:
        with _one_trace:
            graph = torch.fx.symbolic_trace(network).graph
    except _UNTRACEABLE:
        return 0
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    folded = 0
    for node in graph.nodes:
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, torch.fx.Node) or before.op != "call_module":
            continue
        names = str(before.target), str(node.target)
        convolution, norm = (network.get_submodule(name) for name in names)
        if type(convolution) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d:
            continue
        if len(before.users) == 1 and all(calls.count(name) == 1 for name in names):
            _replace(network, names[0], fuse_conv_bn_eval(convolution, norm))
            _replace(network, names[1], nn.Identity())
            folded += 1
    return folded


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)
