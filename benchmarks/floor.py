"""The least that each stage must move and do, whoever writes it, in bytes and operations an image.

Bytes are those that must be read or written once at the stage's border; what a stage keeps to itself is free.
Operations are the arithmetic of the method as it is defined (a convolution is not taken to be done by transforms).
A stage's floor is the longer of the two at one core's measured memory bandwidth and float32 matrix rate. Entropy
coding, file systems and Python are in no floor, so small stages stay far above theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch.utils.flop_counter import FlopCounterMode

FLOAT = 4
JPEG_OPERATIONS = 25  # a pixel: inverse transforms of 1.5 planes in 8 x 8 blocks, chroma upsampled, colours converted


@dataclass(frozen=True)
class Work:
    """What one image asked of the stages: sizes in pixels and bytes, counts, sums over masks and crops."""

    file_bytes: float
    image_pixels: float
    input_pixels: float
    forward_operations: float
    forward_bytes: float
    anchors: float
    candidates: float
    masks: float
    prototype_bytes: float
    box_cells: float  # prototype pixels in the boxes, summed over masks
    rle_bytes: float
    crops: float
    crop_pixels: float
    clip_operations: float
    clip_bytes: float
    written_bytes: float


def floors(work: Work) -> dict[str, tuple[float, float]]:
    """Bytes and operations by stage."""
    clip_input = work.crops * work.crop_pixels * 3
    # Bilinear: four pixels at most for each that comes out, and never more than the image has.
    resized = min(work.image_pixels, 4 * work.input_pixels)
    return {
        "read": (work.file_bytes, 0),
        "decode": (work.file_bytes + 3 * work.image_pixels, JPEG_OPERATIONS * work.image_pixels),
        "letterbox": (3 * (resized + work.input_pixels), 24 * work.input_pixels),
        "forward": (work.forward_bytes, work.forward_operations),
        "nms": (work.anchors * FLOAT + work.candidates * 37 * FLOAT, 12 * work.masks * work.candidates),
        "masks+rle": (work.prototype_bytes + work.masks * 32 * FLOAT + work.rle_bytes, 2 * 32 * work.box_cells),
        "crops": (3 * work.image_pixels + clip_input, 8 * clip_input),
        "clip": (work.clip_bytes + clip_input, work.clip_operations),
        "write": (2 * work.written_bytes, 0),
    }


def mean_work(works: list[Work]) -> Work:
    """The average image."""
    return Work(**{field.name: sum(getattr(work, field.name) for work in works) / len(works) for field in fields(Work)})


def operations(call, *inputs: object) -> float:
    """Operations of a network on the inputs, a multiplication and an addition being two."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not know what is inside the fused attention
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops())
