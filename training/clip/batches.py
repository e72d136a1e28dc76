"""Batches of augmented crops, drawn from the groups in fixed shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2
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
SURROUNDED = 0.6  # of what another network sees, how many are there with surroundings: most masks' two go together
ELSEWHERE = 0.2  # of crops without their background: how many are laid over another crop


@dataclass(frozen=True)
class Batch:
    """Crops uint8 [n, size, size, 3] with, for each, its name's place in the bank (-1 without one),
    whether it is a labelled COCO thing, background or a found mask, its nouns' places, its captions' places.
    """

    crops: NDArray[np.uint8]
    names: NDArray[np.int64]
    coco: NDArray[np.bool_]
    background: NDArray[np.bool_]
    found: NDArray[np.bool_]
    nouns: list[NDArray[np.int64]]
    captions: list[NDArray[np.int64]]
    seen: Seen | None = None


@dataclass(frozen=True)
class Seen:
    """What of a batch another network is to see: crops uint8 [m, s, s, 3] with their surroundings, changed as the
    batch's crops, and for each of those its place among them, int64 [n].
    """

    crops: NDArray[np.uint8]
    of: NDArray[np.int64]


class Sampler:
    """Draws batches; names come up by the inverse square root of how many crops they have."""

    def __init__(
        self,
        crops: Crops,
        bank: TextBank,
        fill_rgb: NDArray[np.uint8],
        seed: int,
        taught: float = SHARES["taught"],
        sees: bool = False,
    ) -> None:
        self.crops, self.fill_rgb, self.sees = crops, fill_rgb, sees
        self.rng = np.random.default_rng(seed)
        self.surrounded = np.flatnonzero([row.kind == "context" for row in crops.rows])
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
        """About `count` crops at `size` pixels, and, if the sampler `sees`, what another network is to see of them."""
        chosen = np.concatenate(
            [
                self.rng.choice(indices, round(count * self.shares[group]), p=weights)
                for group, (indices, weights) in sorted(self.groups.items())
            ]
        )
        rows = [self.crops.rows[index] for index in chosen]
        if self.sees:
            crops, seen = self._seen(chosen, size)
        else:
            crops = np.stack([augmented(self._pixels(row), size, self.fill_rgb, self.rng) for row in chosen])
            seen = None
        return Batch(
            crops=crops,
            names=self.names[chosen],
            coco=np.array([row.group in ("labelled", "taught") for row in rows]),
            background=np.array([row.group == "background" for row in rows]),
            found=np.array([row.group == "found" for row in rows]),
            nouns=[self.nouns[index] for index in chosen],
            captions=[self.first_caption[i] + np.arange(self.captions[i]) for i in chosen],
            seen=seen,
        )

    def draw_seen(self, count: int, size: int) -> tuple[NDArray[np.uint8], Seen]:
        """About `count` crops uint8 [n, size, size, 3], of masks both with the same changes, and what is seen of them.

        Every mask and photograph comes up as often.
        """
        return self._seen(self.rng.choice(self.surrounded, round(count * SURROUNDED)), size, both=True)

    def _seen(self, chosen: NDArray[np.int64], size: int, both: bool = False) -> tuple[NDArray[np.uint8], Seen]:
        """The crops of these rows, with `both` also those without surroundings beside those that have them."""
        full = self.crops.pixels.shape[1]
        crops, views, of = [], [], []
        for view, row in enumerate(chosen):
            seed = self.rng.integers(2**62)
            surrounded = row + (self.crops.rows[row].kind == "masked")  # which come before their crop with context
            views.append(augmented(self.crops.pixels[surrounded], full, self.fill_rgb, np.random.default_rng(seed)))
            wanted = [row - 1, row] if both and row and self.crops.rows[row - 1].kind == "masked" else [row]
            for each in wanted:
                crop = views[-1]
                if each != surrounded:
                    crop = augmented(self._pixels(each), full, self.fill_rgb, np.random.default_rng(seed))
                crops.append(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA))
                of.append(view)
        return np.stack(crops), Seen(np.stack(views), np.array(of))

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        """A crop, now and then with another for its background where its own was taken away."""
        crop = self.crops.pixels[index]
        if self.crops.rows[index].kind != "masked" or self.rng.random() >= ELSEWHERE:
            return crop
        other = self.crops.pixels[self.rng.integers(len(self.crops.rows))]
        return np.where((crop == self.fill_rgb).all(2, keepdims=True), other, crop)


def _group(row: Row) -> str:
    return "coco" if row.group == "labelled" else row.group
