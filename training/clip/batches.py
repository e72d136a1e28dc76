"""Batches of augmented crops, drawn from the groups in fixed shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.clip.augment import augmented
from training.clip.crops import Crops, Row
from training.clip.text import TextBank

SHARES = {
    "coco": 0.42,
    "taught": 0.3,
    "background": 0.05,
    "whole": 0.24,
    "caption": 0.14,
    "found": 0.15,
    "sprite": 0.06,
}
ELSEWHERE = 0.2  # of crops without their background: how many are laid over another crop


@dataclass(frozen=True)
class Batch:
    """Crops uint8 [n, size, size, 3] with, for each, its name's place in the bank (-1 without one),
    whether it is a labelled COCO thing, background or a found mask, its nouns' places, its captions' places, and
    what another network sees in it, float16 [n, d].
    """

    crops: NDArray[np.uint8]
    names: NDArray[np.int64]
    coco: NDArray[np.bool_]
    background: NDArray[np.bool_]
    found: NDArray[np.bool_]
    nouns: list[NDArray[np.int64]]
    captions: list[NDArray[np.int64]]
    features: NDArray[np.float16] | None = None


class Sampler:
    """Draws batches; names come up by the inverse square root of how many crops they have."""

    def __init__(
        self,
        crops: Crops,
        bank: TextBank,
        fill_rgb: NDArray[np.uint8],
        seed: int,
        taught: float = SHARES["taught"],
        features: NDArray[np.float16] | None = None,
    ) -> None:
        self.crops, self.fill_rgb, self.features = crops, fill_rgb, features
        self.rng = np.random.default_rng(seed)
        place = {name: index for index, name in enumerate(bank.names)}
        self.names = np.array([place[row.name] if row.name else -1 for row in crops.rows], np.int64)
        self.nouns = [np.array([place[noun] for noun in row.nouns], np.int64) for row in crops.rows]
        counts = np.array([len(row.captions) for row in crops.rows], np.int64)
        self.first_caption = np.cumsum(counts) - counts
        self.captions = counts
        self.groups: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        by_group: dict[str, list[int]] = {}
        for index, row in enumerate(crops.rows):
            if row.group != "found" or row.nouns:
                by_group.setdefault(_group(row), []).append(index)
        for group, indices in by_group.items():
            often = Counter(self.names[index] for index in indices)
            weights = np.array([often[self.names[index]] ** -0.5 for index in indices])
            self.groups[group] = np.array(indices), weights / weights.sum()
        shares = SHARES | {"taught": taught}
        total = sum(shares[group] for group in self.groups)
        self.shares = {group: shares[group] / total for group in self.groups}

    def draw(self, count: int, size: int) -> Batch:
        """About `count` crops at `size` pixels."""
        chosen = np.concatenate(
            [
                self.rng.choice(indices, round(count * self.shares[group]), p=weights)
                for group, (indices, weights) in sorted(self.groups.items())
            ]
        )
        rows = [self.crops.rows[index] for index in chosen]
        pixels = [augmented(self._pixels(index), size, self.fill_rgb, self.rng) for index in chosen]
        return Batch(
            crops=np.stack(pixels),
            names=self.names[chosen],
            coco=np.array([row.group in ("labelled", "taught") for row in rows]),
            background=np.array([row.group == "background" for row in rows]),
            found=np.array([row.group == "found" for row in rows]),
            nouns=[self.nouns[index] for index in chosen],
            captions=[self.first_caption[i] + np.arange(self.captions[i]) for i in chosen],
            features=None if self.features is None else self.features[chosen],
        )

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        """A crop, now and then with another for its background where its own was taken away."""
        crop = self.crops.pixels[index]
        if self.crops.rows[index].kind != "masked" or self.rng.random() >= ELSEWHERE:
            return crop
        other = self.crops.pixels[self.rng.integers(len(self.crops.rows))]
        return np.where((crop == self.fill_rgb).all(2, keepdims=True), other, crop)


def _group(row: Row) -> str:
    return "coco" if row.group == "labelled" else row.group
