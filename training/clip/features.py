"""What a detection network sees in a crop, for the image tower to learn to see as well.

Labels are few, and a name says little of a crop. A network that learnt from many more photographs describes each crop
by some hundred numbers; to foretell them, the image tower must find what they rest on.

Method: "FitNets", Romero et al. 2015: a linear map from the student's last features to the teacher's, with a loss.
Teacher and student see the same changed crop, and long enough: "Knowledge distillation: A good teacher is patient and
consistent", Beyer et al. 2022.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastsam_batch.models.network import load_module
from training.clip.batches import Seen
from training.clip.crops import Crops
from training.loop import mixed_precision

SIDE = 192  # pixels of a crop as the network gets it
LAYERS = 2  # of the backbone, the deepest ones that its head takes
_BATCH = 64
_MEASURED = 2048  # crops whose mean and deviation stand for those of all


class Seer:
    """Says what a YOLO's backbone sees in crops, in numbers of mean 0 and deviation 1 over the crops given here.

    Raises InputError for weights that cannot be read.
    """

    def __init__(self, weights: Path, crops: Crops, device: str = "cpu") -> None:
        self._backbone = _Backbone(weights, device)
        seen = np.flatnonzero([row.kind == "context" for row in crops.rows])
        some = np.sort(np.random.default_rng(0).choice(seen, min(_MEASURED, len(seen)), replace=False))
        parts = [crops.pixels[some[first : first + _BATCH]] for first in range(0, len(some), _BATCH)]
        features = torch.cat([self._backbone.features(part) for part in parts])
        self._mean, self._deviation = features.mean(0), features.std(0) + 1e-6
        self.width = features.shape[1]

    def features(self, seen: Seen) -> torch.Tensor:
        """Float32 [n, width] of a batch's crops: channels of the backbone, averaged over what is seen of each."""
        features = (self._backbone.features(seen.crops) - self._mean) / self._deviation
        return features[torch.from_numpy(seen.of).to(features.device)]


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

    @torch.no_grad()
    def features(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        crops = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        crops = torch.nn.functional.interpolate(crops, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        with mixed_precision(self._device):
            self._network.model(crops.contiguous(memory_format=torch.channels_last))
        return torch.cat([self._kept[layer] for layer in self._layers], 1)
