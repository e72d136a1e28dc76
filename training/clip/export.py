"""A published folder: configuration and fp16 weights, as the embedder loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from training.clip.model import write_config


def export(model: torch.nn.Module, config: dict[str, Any], folder: Path) -> None:
    """Write open_clip_config.json and open_clip_model.safetensors (fp16) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(config, folder)
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, folder / "open_clip_model.safetensors", {"licence": str(config["licence"]), "format": "pt"})
