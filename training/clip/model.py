"""The network: an open_clip configuration, and a CLIP with its text tower taken from another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from fastsam_batch.storage import write_result

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
FILL_RGB: NDArray[np.uint8] = np.round(np.array(MEAN) * 255).astype(np.uint8)
IMAGE_TOWER = "visual."


def configuration(image_size: int, tower: str = "resnet10t") -> dict[str, Any]:
    """What open_clip_config.json holds."""
    return {
        "model_cfg": {
            "embed_dim": 256,
            "vision_cfg": {
                "timm_model_name": tower,
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": image_size,
            },
            "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 4},
        },
        "preprocess_cfg": {"mean": list(MEAN), "std": list(STD)},
        "licence": "AGPL-3.0",
    }


def build(config: dict[str, Any], text_tower: Path | None) -> torch.nn.Module:
    """A new CLIP with a fresh image tower and, from a published folder, its text tower frozen."""
    from open_clip.model import CLIP

    model: torch.nn.Module = CLIP(**config["model_cfg"])
    if text_tower is not None:
        weights = load_file(text_tower / "open_clip_model.safetensors")
        text = {name: tensor.float() for name, tensor in weights.items() if not name.startswith(IMAGE_TOWER)}
        left_out = model.load_state_dict(text, strict=False)
        missing = [name for name in left_out.missing_keys if not name.startswith(IMAGE_TOWER)]
        if missing or left_out.unexpected_keys:
            raise ValueError(f"{text_tower}: its text tower differs in {missing + left_out.unexpected_keys}")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(IMAGE_TOWER))
    return model


def take_image_tower(model: torch.nn.Module, folder: Path) -> None:
    """Give a model the image tower of a published folder. Raises RuntimeError where it is of another form."""
    weights = load_file(folder / "open_clip_model.safetensors")
    tower = {name[len(IMAGE_TOWER) :]: value.float() for name, value in weights.items() if name.startswith(IMAGE_TOWER)}
    model.visual.load_state_dict(tower)  # type: ignore[operator,union-attr]


def published(folder: Path) -> torch.nn.Module:
    """The CLIP of a published folder, to be asked only. Its batch norms are as they were trained."""
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    model = build(config, folder)
    take_image_tower(model, folder)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def encode_texts(model: torch.nn.Module, texts: list[str], batch: int = 256) -> torch.Tensor:
    """Unit vectors float32 [n, dim] of texts as they are."""
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=model.context_length)
    device = next(model.parameters()).device
    parts = [
        torch.nn.functional.normalize(model.encode_text(tokenizer(texts[i : i + batch]).to(device)).float(), dim=-1)
        for i in range(0, len(texts), batch)
    ]
    return torch.cat(parts)


def as_input(crops: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Crops uint8 RGB [n, size, size, 3] as the image tower takes them, float32 [n, 3, size, size]."""
    pixels = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


def write_config(config: dict[str, Any], folder: Path) -> None:
    """open_clip_config.json into `folder`, whole. Raises InputError where it cannot be written."""
    write_result(folder / "open_clip_config.json", json.dumps(config, indent=1).encode())
