"""What detection networks see in a crop, for the image tower to learn to see as well.

Labels are few, and a name says little of a crop. Networks that learnt from many more photographs describe each crop
by some hundred numbers; to foretell them, the image tower must find what they rest on.

Method: "FitNets", Romero et al. 2015: a linear map from the student's last features to the teacher's, with a loss.
Teacher and student see the same changed crop, and long enough: "Knowledge distillation: A good teacher is patient and
consistent", Beyer et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastsam_batch.errors import InputError, first_line
from fastsam_batch.models.checkpoint import read_checkpoint
from training.clip.batches import Seen
from training.clip.crops import Crops
from training.loop import mixed_precision

SIDE = 160  # pixels of a crop as the networks get it
LAYERS = 2  # of a backbone, the deepest ones that its head takes
_BATCH = 64
_MEASURED = 2048  # crops whose mean and deviation stand for those of all


class Seer:
    """Says what the backbones of YOLOs see in crops, in numbers of mean 0 and deviation 1 over the crops given here.

    Raises InputError for weights that cannot be read.
    """

    def __init__(self, weights: Sequence[Path], crops: Crops, device: str = "cpu") -> None:
        self._backbones = [Backbone(path, device) for path in weights]
        self._device = torch.device(device)
        seen = np.flatnonzero([row.kind == "context" for row in crops.rows])
        some = np.sort(np.random.default_rng(0).choice(seen, min(_MEASURED, len(seen)), replace=False))
        parts = [crops.pixels[some[first : first + _BATCH]] for first in range(0, len(some), _BATCH)]
        features = torch.cat([self._features(part) for part in parts])
        self._mean, self._deviation = features.mean(0), features.std(0) + 1e-6
        self.width = features.shape[1]

    def features(self, seen: Seen) -> torch.Tensor:
        """Float32 [n, width] of a batch's crops: channels of the backbones, averaged over what is seen of each."""
        features = (self._features(seen.crops) - self._mean) / self._deviation
        return features[torch.from_numpy(seen.of).to(features.device)]

    @torch.no_grad()
    def _features(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        crops = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        crops = torch.nn.functional.interpolate(crops, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        crops = crops.contiguous(memory_format=torch.channels_last)
        with mixed_precision(self._device):
            return torch.cat([backbone.features(crops) for backbone in self._backbones], 1)


class Backbone:
    """The layers before the head of any network of Ultralytics: to detect, to segment, of names or of any words.

    Raises InputError for weights that cannot be read.
    """

    def __init__(self, weights: Path, device: str) -> None:
        from ultralytics.nn.tasks import parse_model
        from ultralytics.utils.torch_utils import initialize_weights

        architecture, state = read_checkpoint(weights)
        of_backbone, taken = len(architecture["backbone"]), set()
        for sources, *_ in architecture["head"]:
            taken.update(sources if isinstance(sources, list) else [sources])
        # The first layer of a head takes the last one of the backbone as -1.
        layers = {layer for layer in taken if 0 <= layer < of_backbone} | {of_backbone - 1}
        self._layers = sorted(layers)[-LAYERS:]
        self._network, _ = parse_model({**architecture, "head": []}, ch=3, verbose=False)
        initialize_weights(self._network)  # its normalisations' epsilon, which no weights hold
        own = {name.removeprefix("model."): value for name, value in state.items()}
        try:
            self._network.load_state_dict({name: own[name] for name in self._network.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{weights}: its weights do not fit its architecture ({first_line(error)})") from error
        self._network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """Float32 [n, channels] of crops [n, 3, h, w]."""
        found: list[torch.Tensor] = []
        last: Any = crops
        for layer in self._network:
            last = layer(last)
            found.append(last)
        return torch.cat([found[layer].mean((2, 3)).float() for layer in self._layers], 1)
