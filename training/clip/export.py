"""A published folder: configuration and fp16 weights, as the embedder loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from training.clip.model import write_config
from training.loop import save_published


def export(model: torch.nn.Module, config: dict[str, Any], folder: Path) -> None:
    """Write open_clip_config.json and open_clip_model.safetensors (fp16) into `folder`, each whole.

    Raises InputError where they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_config(config, folder)
    save_published(model, folder / "open_clip_model.safetensors", {"licence": str(config["licence"])})
