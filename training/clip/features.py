"""What a detection network sees in every crop, for the image tower to learn to see as well.

Labels are few, and a name says little of a crop. A network that learnt from many more photographs describes each crop
by some hundred numbers; to foretell them, the image tower must find what they rest on.

Method: "FitNets", Romero et al. 2015: a linear map from the student's last features to the teacher's, with a loss.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastsam_batch.models.network import load_module
from fastsam_batch.storage import write_result
from training.clip.crops import Crops
from training.loop import mixed_precision

log = logging.getLogger("training.clip")

SIDE = 160  # pixels of a crop as the network gets it
LAYERS = 2  # of the backbone, the deepest ones that its head takes
_BATCH = 64


def crop_features(crops: Crops, weights: Path, device: str = "cpu") -> NDArray[np.float16]:
    """Float16 [n, d] of n crops: channels of a YOLO's backbone, averaged over the crop, of mean 0 and deviation 1.

    A masked crop has those of the same mask's crop with context, where the network sees more. Raises InputError for
    weights that cannot be read.
    """
    seen = np.flatnonzero([row.kind == "context" for row in crops.rows])
    of_row = np.searchsorted(seen, np.arange(len(crops.rows)))  # a mask's crop with context comes after its masked one
    backbone = _Backbone(weights, device)
    parts = []
    for first in range(0, len(seen), _BATCH):
        parts.append(backbone.features(crops.pixels[seen[first : first + _BATCH]]))
        if first % (100 * _BATCH) == 0:
            log.info("features of %d of %d crops", first, len(seen))
    features = np.concatenate(parts)
    return ((features - features.mean(0)) / (features.std(0) + 1e-6)).astype(np.float16)[of_row]


def kept_features(path: Path, crops: Crops, weights: Path, device: str = "cpu") -> NDArray[np.float16]:
    """`crop_features`, made where `path` does not hold them yet. Raises InputError where it cannot be written."""
    if not path.is_file():
        file = io.BytesIO()
        np.save(file, crop_features(crops, weights, device))
        write_result(path, file.getvalue())
    features: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return features


class _Backbone:
    def __init__(self, weights: Path, device: str) -> None:
        self._network, _ = load_module(weights)
        self._network.to(device, memory_format=torch.channels_last)
        self._device = torch.device(device)
        backbone = len(self._network.yaml["backbone"])
        self._layers = [layer for layer in self._network.save if layer < backbone][-LAYERS:]
        self._kept: dict[int, torch.Tensor] = {}
        for layer in self._layers:
            self._network.model[layer].register_forward_hook(self._keeper(layer))
        self._network.model = self._network.model[:backbone]

    def _keeper(self, layer: int) -> Any:
        def keep(_: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
            self._kept[layer] = output.mean((2, 3)).float()

        return keep

    @torch.inference_mode()
    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        crops = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        crops = torch.nn.functional.interpolate(crops, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        with mixed_precision(self._device):
            self._network.model(crops.contiguous(memory_format=torch.channels_last))
        return torch.cat([self._kept[layer] for layer in self._layers], 1).cpu().numpy()
