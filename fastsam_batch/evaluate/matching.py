"""One-to-one matching of edge pixels with true ones, kept maximum while the edge pixels change.

Pixels match within a distance. The greatest number of pairs is a maximum bipartite matching; from one
threshold of an edge map to the next most of it stays, so pairs are kept and only what changed is searched.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

_TRUE_AT_ONCE = 1024  # true pixels whose whole neighbourhoods are in memory at once


class PixelMatcher:
    """A maximum matching between one person's edge pixels and a changing set of found ones.

    Method: augmenting paths (Berge 1957). Pixels that a search has shown to lead to no free true pixel are
    closed: no later search enters them until a found pixel among them goes. The work over all changes is then
    about one pass over the pairs within reach, where a search anew for each threshold can take seconds.
    """

    def __init__(self, truth: NDArray[np.bool_], radius: float, possible: NDArray[np.bool_]) -> None:
        """`truth` bool [h, w], `radius` the largest distance of a pair in pixels, inclusive; `possible` bool [h, w] has
        every pixel that may ever be found: the pairs of others, most of them, would only take memory.
        """
        true_pixels = np.flatnonzero(truth)
        near, targets, ranks = _pairs(possible, true_pixels, radius)
        order = np.lexsort((ranks, near))
        self.truths = len(true_pixels)
        self._pixels, counts = np.unique(near, return_counts=True)
        # By found pixel its true ones, from the nearest; by true pixel its found ones.
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._targets, self._ranks = targets[order], ranks[order]
        self._start_of, self._target_at = self._starts.tolist(), self._targets.tolist()
        owners = np.repeat(np.arange(len(counts)), counts)
        back = np.argsort(self._targets, kind="stable")
        self._back_at = owners[back].tolist()
        self._back_start_of = np.searchsorted(self._targets[back], np.arange(self.truths + 1)).tolist()

        self._present = np.zeros(len(counts), np.bool_)
        self._is_present = bytearray(len(counts))
        self._truth_of = array("i", [-1]) * len(counts)
        self._found_of = array("i", [-1]) * self.truths
        self._closed = bytearray(self.truths)
        self.matched = 0

    def update(self, found: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Match found pixels, bool [h, w], with the true ones; `matched` is then the number of pairs.

        Returns the found pixels that have a partner, as row-major positions.
        """
        present = found.ravel()[self._pixels]
        for left in np.flatnonzero(self._present & ~present).tolist():
            self._remove(left)
        added = np.flatnonzero(present & ~self._present)
        self._present = present
        self._add(added)
        return np.asarray(self._pixels[np.frombuffer(self._truth_of, np.int32) >= 0])

    def _remove(self, left: int) -> None:
        self._is_present[left] = 0
        right = self._truth_of[left]
        if right >= 0:
            self._truth_of[left] = self._found_of[right] = -1
            self.matched -= 1
            # Found pixels without a partner reach closed true pixels only: others stay free.
            if self._closed[right]:
                self._refill(right)

    def _add(self, added: NDArray[np.int64]) -> None:
        for left in added.tolist():
            self._is_present[left] = 1
        self._match_nearest(added)
        for left in added.tolist():
            if self._truth_of[left] < 0:
                self._extend(left)

    def _match_nearest(self, lefts: NDArray[np.int64]) -> None:
        """Pairs of free pixels, from the closest on: fewer searches, and the short pairs a person would draw."""
        starts, counts = self._starts[lefts], self._starts[lefts + 1] - self._starts[lefts]
        owners = np.repeat(lefts, counts)
        places = np.arange(len(owners)) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        order = np.argsort(self._ranks[places], kind="stable")
        truth_of, found_of = self._truth_of, self._found_of
        for left, right in zip(owners[order].tolist(), self._targets[places[order]].tolist(), strict=True):
            if found_of[right] < 0 and truth_of[left] < 0:
                truth_of[left], found_of[right] = right, left
                self.matched += 1

    def _extend(self, free: int) -> None:
        """Give a found pixel a partner by an alternating path, or close what it reaches."""
        start_of, target_at, closed, found_of = self._start_of, self._target_at, self._closed, self._found_of
        came: dict[int, int] = {}
        queue = [free]
        for left in queue:
            for right in target_at[start_of[left] : start_of[left + 1]]:
                if closed[right] or right in came:
                    continue
                came[right] = left
                if found_of[right] < 0:
                    while right >= 0:
                        left = came[right]
                        found_of[right] = left
                        self._truth_of[left], right = right, self._truth_of[left]
                    self.matched += 1
                    return
                queue.append(found_of[right])
        for right in came:
            closed[right] = 1

    def _refill(self, free: int) -> None:
        """Give a true pixel that lost its partner another by an alternating path, or open what reaches it."""
        back_start_of, back_at, truth_of = self._back_start_of, self._back_at, self._truth_of
        came: dict[int, int] = {}
        queue = [free]
        for right in queue:
            for left in back_at[back_start_of[right] : back_start_of[right + 1]]:
                if not self._is_present[left] or left in came:
                    continue
                came[left] = right
                if truth_of[left] < 0:
                    while left >= 0:
                        right = came[left]
                        truth_of[left] = right
                        self._found_of[right], left = left, self._found_of[right]
                    self.matched += 1
                    return
                if self._closed[truth_of[left]]:
                    queue.append(truth_of[left])
        for right in queue:
            self._closed[right] = 0


def _pairs(
    possible: NDArray[np.bool_], true_pixels: NDArray[np.int64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint16]]:
    """Possible pixels within reach of true ones: their positions, the true pixels' numbers, the distances' ranks."""
    reach, width = int(radius), possible.shape[1]
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    squares = dy * dy + dx * dx
    inside = squares <= radius * radius
    dy, dx, squares = dy[inside], dx[inside], squares[inside]
    rank = np.searchsorted(np.unique(squares), squares).astype(np.uint16)
    rows, columns = np.divmod(true_pixels, width)
    framed = np.pad(possible, reach)  # no pixel outside the image is possible
    positions: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    ranks: list[NDArray[np.uint16]] = []
    for first in range(0, max(len(true_pixels), 1), _TRUE_AT_ONCE):
        some = slice(first, first + _TRUE_AT_ONCE)
        y, x = rows[some, None] + dy, columns[some, None] + dx
        number, place = np.nonzero(framed[y + reach, x + reach])
        positions.append(y[number, place] * width + x[number, place])
        targets.append(number + first)
        ranks.append(rank[place])
    return np.concatenate(positions), np.concatenate(targets), np.concatenate(ranks)
