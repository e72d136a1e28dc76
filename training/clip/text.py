"""What images are drawn to: unit vectors of nouns, of class names and of captions from a frozen text tower."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from training.clip.crops import Row
from training.clip.model import encode_texts

SOFT_SHARE = 0.2  # of a target that goes to the names near the right one
SOFT_SCALE = 15.0


@dataclass(frozen=True)
class TextBank:
    """Vectors of every name, float32 [names, dim], and of every caption, float32 [captions, dim].

    `soft` float32 [names, names]: a row is the target distribution of its name; `near` bool [names, names]:
    names too alike to be each other's negatives, and `maybe` those that a thing of the one may well be called,
    so that a caption with the one says nothing against the other. `coco` int64 [80]: where the COCO names are.
    """

    names: list[str]
    vectors: torch.Tensor
    soft: torch.Tensor
    near: torch.Tensor
    maybe: torch.Tensor
    coco: torch.Tensor
    captions: torch.Tensor

    def index(self, name: str) -> int:
        """Where a name is in the bank."""
        return self.names.index(name)


def text_bank(model: torch.nn.Module, rows: list[Row], coco_names: list[str]) -> TextBank:
    """The bank of all names and captions of the rows; captions stand in the rows' order, each row's together."""
    seen = dict.fromkeys(coco_names)
    for row in rows:
        seen.update(dict.fromkeys((*row.nouns, *([row.name] if row.name else []))))
    names = list(seen)
    vectors = encode_texts(model, names)
    captions = [caption for row in rows for caption in row.captions]
    alike = vectors @ vectors.T
    near, maybe = alike > 0.55, alike > 0.34
    soft = torch.softmax((alike - 2 * torch.eye(len(names), device=alike.device)) * SOFT_SCALE, 1) * SOFT_SHARE
    soft += (1 - SOFT_SHARE) * torch.eye(len(names), device=alike.device)
    vectors_of_captions = encode_texts(model, captions) if captions else vectors[:0]
    return TextBank(names, vectors, soft, near, maybe, torch.arange(len(coco_names)), vectors_of_captions)
