"""Both sides with the same weights: the reference loop's models and ours, the built-in ones or untrained large ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import made_models
import torch
from PIL import Image
from reference_loop import Reference

from fastsam_batch.masks.boxes import letterbox_of
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.network import Network
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import BUILTIN_FOLDER
from fastsam_batch.resources import CPU_CROPS, GPU_CROPS

Outputs = tuple[torch.Tensor, torch.Tensor]
EVERY_ANCHOR = -1.0  # a confidence below all


@dataclass(frozen=True)
class Pair:
    """`made`: what the segmenters are taken to find, by input shape; None keeps what they do find."""

    segmenter: Segmenter
    embedder: Embedder
    reference: Reference
    made: dict[tuple[int, int], Outputs] | None
    crop: str

    def network(self, forward: Callable[..., Any]) -> Network:
        """Our network, run by `forward`, its outputs replaced where some were made.

        An untrained network finds nothing, and would be spared the boxes of what it would have found: it is asked for
        those of every anchor.
        """

        def inner(pixels: torch.Tensor, conf: float) -> Any:
            if not self.made:
                return forward(pixels, conf)
            forward(pixels, EVERY_ANCHOR)
            predictions, prototypes = self._made(pixels)
            return predictions.unbind(), prototypes

        return replace(self.segmenter.network, forward=inner)

    def reference_inference(self, inference: Callable[..., Any]) -> Callable[..., Any]:
        """The same for the method `inference` of Ultralytics' predictor."""

        def inner(pixels: torch.Tensor, *arguments: Any, **named: Any) -> Any:
            found = inference(pixels, *arguments, **named)
            return (self._made(pixels), *found[1:]) if self.made else found

        return inner

    def _made(self, pixels: torch.Tensor) -> Outputs:
        assert self.made is not None
        predictions, prototypes = self.made[pixels.shape[-2], pixels.shape[-1]]
        return predictions.expand(len(pixels), -1, -1), prototypes.expand(len(pixels), -1, -1, -1)


def load_pair(
    folder: Path,
    models: str,
    paths: list[Path],
    *,
    crop: str = "both",
    masks: int = 100,
    device: str = "cpu",
    mode: str = "crop",
    batch_size: int = 1,
    precision: str = "auto",
) -> Pair:
    """The built-in models (`builtin`), or an untrained YOLOv8-seg (`s`, `x`) at 1024 pixels with a ViT-B/32.

    `precision` is ours; the reference computes in float32, as its libraries do unless told otherwise. The untrained
    ones find `masks` made things in each of the photographs at `paths`. Files go into `folder`.
    """
    checkpoint = folder / f"FastSAM-{models}.pt"
    size = None if models == "builtin" else models
    if not checkpoint.exists():
        made_models.fastsam_checkpoint(checkpoint, size)
    clip = folder / "clip" if size else BUILTIN_FOLDER / "clip"
    if not clip.exists():
        made_models.clip_folder(clip)
    weights = checkpoint if size else BUILTIN_FOLDER / "segmenter.safetensors"
    segmenter = Segmenter(weights, batch_size=batch_size, device=device, precision=precision)
    thresholds: dict[str, float] = {"imgsz": segmenter.imgsz, "conf": segmenter.conf, "iou": segmenter.iou}
    thresholds["max_det"] = segmenter.max_masks
    made = None
    if size:
        shapes = [image.size[::-1] for image in map(Image.open, paths)]
        inputs = {letterbox_of(shape, segmenter.imgsz).input_hw: shape for shape in shapes}
        outputs = {hw: made_models.made_output(shape, segmenter.imgsz, masks) for hw, shape in inputs.items()}
        made = {hw: (found[0].to(device), found[1].to(device)) for hw, found in outputs.items()}
    reference = Reference(str(checkpoint), f"local-dir:{clip}", crop, device, **thresholds)
    crops = CPU_CROPS if device == "cpu" else GPU_CROPS
    embedder = Embedder(str(clip), batch_size=crops, device=device, mode=mode, precision=precision)
    return Pair(segmenter, embedder, reference, made, crop)
