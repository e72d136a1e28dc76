"""The number formats in which the networks compute: half of the bytes where a device is made for them.

What each costs, built-in models: a segmenter in float16, its boxes decoded in float32, finds the masks of float32
(all of 162 at IoU .95 or more, scores within .01); in bfloat16, 97 % of them, since its NMS decides by small
differences. An embedder in bfloat16 gives vectors with a cosine of .9999 or more with those of float32.
"""

from __future__ import annotations

import torch

from fastsam_batch.errors import InputError

_NAMED = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def segmenter_format(precision: str, device: torch.device) -> torch.dtype:
    """A segmenter's: `precision` by its name; `auto` is float16 on CUDA, float32 elsewhere. Raises as `_named`."""
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return _named(precision, device)


def embedder_format(precision: str, device: torch.device) -> torch.dtype:
    """An image tower's: `precision` by its name; `auto` is bfloat16 where the device has instructions for it, float32
    elsewhere. Raises as `_named`.
    """
    if precision == "auto":
        return torch.bfloat16 if computes_in_bfloat16(device) else torch.float32
    return _named(precision, device)


def settle_float32(precision: str, device: torch.device) -> None:
    """Have the whole process compute float32 convolutions as such where that is asked for by name.

    By torch's default cuDNN rounds what it multiplies to TensorFloat-32, 10 bits of fraction.
    """
    if precision == "float32" and device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself, where others would only imitate it, slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16") or cpu.get("bf16"))


def _named(precision: str, device: torch.device) -> torch.dtype:
    """Raises InputError for float16 on a CPU, which has no instructions for it."""
    if precision == "float16" and device.type == "cpu":
        raise InputError("--precision float16: is for GPUs; on a CPU use bfloat16, or leave the option out")
    return _NAMED[precision]
