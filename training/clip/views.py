"""What a detection network sees in every crop, for the image tower to learn to see as well.

Labels are few, and a name says little of a crop. A network that learnt from many more photographs describes each crop
by some hundred numbers, and knows for each of its names how much there is of it; to foretell both, the image tower must
find what they rest on.

Method: "FitNets", Romero et al. 2015: a linear map from the student's last features to the teacher's, with a loss;
"Distilling the Knowledge in a Neural Network", Hinton et al. 2015.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastsam_batch.errors import InputError
from fastsam_batch.models.network import load_module
from training.clip.crops import Crops
from training.loop import mixed_precision

log = logging.getLogger("training.clip")

SIDE = 160  # pixels of a crop as the network gets it
LAYERS = 2  # of the backbone, the deepest ones that its head takes
_BATCH = 64


@dataclass(frozen=True)
class Views:
    """How a network sees crops: `features` float16 [n, d], channels of its backbone averaged over the crop, of mean 0
    and deviation 1 over all crops; `scores` float16 [n, names], how sure it is anywhere in the crop of each name.
    """

    features: NDArray[np.float16]
    scores: NDArray[np.float16]

    def of(self, chosen: NDArray[np.int64]) -> Views:
        """Those of some crops."""
        return Views(self.features[chosen], self.scores[chosen])


def crop_views(crops: Crops, weights: Path, names: int, device: str = "cpu") -> Views:
    """How a YOLO of so many names sees crops. A masked crop has the view of the same mask's crop with context, where
    the network sees more. Raises InputError for weights that cannot be read, or know other names.
    """
    seen = np.flatnonzero([row.kind == "context" for row in crops.rows])
    of_row = np.searchsorted(seen, np.arange(len(crops.rows)))  # a mask's crop with context comes after its masked one
    viewer = _Viewer(weights, names, device)
    parts = []
    for first in range(0, len(seen), _BATCH):
        parts.append(viewer.view(crops.pixels[seen[first : first + _BATCH]]))
        if first % (100 * _BATCH) == 0:
            log.info("views of %d of %d crops", first, len(seen))
    features, scores = (np.concatenate(each) for each in zip(*parts, strict=True))
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    return Views(features.astype(np.float16)[of_row], scores.astype(np.float16)[of_row])


def write_views(views: Views, path: Path) -> None:
    """Keep views beside the crops they are of."""
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, features=views.features, scores=views.scores)
    partial.rename(path)


def read_views(path: Path) -> Views:
    """What `write_views` left."""
    with np.load(path) as kept:
        return Views(kept["features"], kept["scores"])


class _Viewer:
    def __init__(self, weights: Path, names: int, device: str) -> None:
        self._network, _ = load_module(weights)
        if self._network.model[-1].nc != names:
            raise InputError(f"{weights}: knows {self._network.model[-1].nc} classes, not the {names} of coco-masks")
        self._network.to(device, memory_format=torch.channels_last)
        self._device, self._names = torch.device(device), names
        backbone = len(self._network.yaml["backbone"])
        self._layers = [layer for layer in self._network.save if layer < backbone][-LAYERS:]
        self._kept: dict[int, torch.Tensor] = {}
        for layer in self._layers:
            self._network.model[layer].register_forward_hook(self._keeper(layer))

    def _keeper(self, layer: int) -> Any:
        def keep(_: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
            self._kept[layer] = output.mean((2, 3)).float()

        return keep

    @torch.inference_mode()
    def view(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        crops = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        crops = torch.nn.functional.interpolate(crops, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        with mixed_precision(self._device):
            (predictions, _), _ = self._network(crops.contiguous(memory_format=torch.channels_last))
        features = torch.cat([self._kept[layer] for layer in self._layers], 1)
        return features.cpu().numpy(), predictions[:, 4 : 4 + self._names].float().amax(2).cpu().numpy()
