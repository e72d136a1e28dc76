"""What every training loop needs: an average of the weights, and files that a kill cannot spoil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from fastsam_batch.models.precision import computes_in_bfloat16
from fastsam_batch.storage import write_result


def mixed_precision(device: torch.device) -> torch.autocast:
    """A forward pass in bfloat16 where the device has instructions for it, which halves the time."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bfloat16(device))


@torch.no_grad()
def follow(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """Move `average` towards `model` by 1 - decay; whole numbers are copied."""
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside `path`, then rename: what is there is always whole."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.rename(path)


def save_published(model: torch.nn.Module, path: Path, header: dict[str, str]) -> None:
    """A model's weights as safetensors, those that are fractions in fp16, with `header` and the format in its own.

    What is at `path` is always whole. Raises InputError where it cannot be written.
    """
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    write_result(path, save(weights, header | {"format": "pt"}))


def set_rate(steppers: list[torch.optim.Optimizer], rate: float) -> None:
    """The learning rate of every group of every optimiser."""
    for stepper in steppers:
        for group in stepper.param_groups:
            group["lr"] = rate
