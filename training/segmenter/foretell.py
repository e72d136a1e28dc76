"""What a detection network sees at every place of a scene, for the segmenter to learn to see as well.

Labels are few; a network that learnt from many more photographs describes every place of every photograph. To foretell
its description, the segmenter must find what things are, where one ends and which parts belong together.

Method: "FitNets", Romero et al. 2015: a linear map from the student's features to the teacher's, with a loss. Features
are those that a YOLO's head takes, which are of the same strides in every YOLO from v8 on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fastsam_batch.errors import InputError
from fastsam_batch.models.network import head_features, load_module
from training.loop import mixed_precision


class Foreteller(torch.nn.Module):
    """Linear maps from a segmenter's features to those of a teacher, and how far these are off.

    Raises InputError for weights that cannot be read or that have other strides than the segmenter.
    """

    def __init__(self, segmenter: Any, weights: Path, some: torch.Tensor) -> None:
        """`some` images float32 [n, 3, h, w] in 0 to 1 stand for all: of the teacher's features in them mean and
        deviation of every channel are taken.
        """
        super().__init__()
        teacher, _ = load_module(weights)
        teacher.to(some.device, memory_format=torch.channels_last)
        self._teacher = [teacher]  # in a list: none of its weights is this module's
        if teacher.stride.tolist() != segmenter.stride.tolist():
            raise InputError(f"{weights}: sees in other strides than the segmenter")
        widths = [branch[0].conv.in_channels for branch in segmenter.model[-1].cv2]
        for level, (theirs, width) in enumerate(zip(self._seen(some), widths, strict=True)):
            self.register_buffer(f"mean{level}", theirs.mean((0, 2, 3), keepdim=True))
            self.register_buffer(f"deviation{level}", theirs.std((0, 2, 3), keepdim=True) + 1e-6)
            self.add_module(f"map{level}", torch.nn.Conv2d(width, theirs.shape[1], 1))
        self.to(some.device)

    def forward(self, features: list[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        """One less the cosine of what is foretold from the segmenter's `features` of `images` with what the teacher
        sees there, at every place, weighted by how far that is from what it sees on the average: a scalar.
        """
        sums = []
        for level, (ours, theirs) in enumerate(zip(features, self._seen(images), strict=True)):
            aim = (theirs - self.get_buffer(f"mean{level}")) / self.get_buffer(f"deviation{level}")
            foretold = self.get_submodule(f"map{level}")(ours.float())
            weight = aim.norm(dim=1)
            sums.append(((1 - functional.cosine_similarity(foretold, aim)) * weight).sum() / weight.sum())
        return torch.stack(sums).mean()

    @torch.no_grad()
    def _seen(self, images: torch.Tensor) -> list[torch.Tensor]:
        with mixed_precision(images.device):
            return [each.float() for each in head_features(self._teacher[0], images)]
