"""Products of a few vectors with a stream of half floats."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.corpus.chunks import Space

# How far a product of unit vectors can lie from the true one: 2**-11 for a vector rounded to half floats, as much for
# their product.
ROUNDING = 1e-3
# Values turned to float32 at once: they are multiplied while they lie in a core's cache.
_VALUES_AT_ONCE = 2**19
# So many vectors are multiplied with half floats as they are, one by one; more with float32 ones, together.
_ONE_BY_ONE = 4


class Lists(Protocol):
    """Embeddings of D half floats, one after the other."""

    def parts(self) -> Iterator[tuple[slice | NDArray[np.int64], NDArray[np.float16]]]:
        """Embeddings [n, D] with their places among all, each part valid until the next one is asked for."""

    def rows(self) -> NDArray[np.int64]:
        """Of each the row it belongs to, int64 [n], ascending; after `parts`."""

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float16]:
        """Embeddings [n, D] at some places, which ascend; after `parts`."""


class Products:
    """Products of unit vectors float32 [q, D] with embeddings, each within ROUNDING.

    For one thread, whatever it reads: its memory is used again and again.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.dim = vectors.shape[1]
        self.space = Space()
        self._vectors = vectors
        self._room = np.empty((0, self.dim), np.float32)
        torch = _loaded_torch()
        self._torch = torch if len(vectors) <= _ONE_BY_ONE else None
        self._halfs = list(torch.from_numpy(vectors).half()) if self._torch else []

    def of(self, lists: Lists, most: int) -> NDArray[np.float32]:
        """Float32 [q, n] with embeddings, of which there are `most` or fewer."""
        out = np.empty((len(self._vectors), most), np.float16 if self._torch else np.float32)
        into = list(self._torch.from_numpy(out)) if self._torch else []
        for places, part in lists.parts():
            if self._torch and isinstance(places, slice) and part.flags.writeable:  # or PyTorch takes no array
                halfs = self._torch.from_numpy(part)
                for vector, of_vector in zip(self._halfs, into, strict=True):
                    self._torch.mv(halfs, vector, out=of_vector[places])  # sums in float32
            else:
                with np.errstate(invalid="ignore", over="ignore"):  # embeddings that are no numbers
                    out[:, places] = self._together(part)
        return out[:, : len(lists.rows())].astype(np.float32, copy=False)

    def _together(self, part: NDArray[np.float16]) -> NDArray[np.float32]:
        out = np.empty((len(self._vectors), len(part)), np.float32)
        together = max(_VALUES_AT_ONCE // self.dim, 1)
        if len(self._room) < min(together, len(part)):
            self._room = np.empty((min(together, len(part)), self.dim), np.float32)
        for first in range(0, len(part), together):
            some = part[first : first + together]
            several = to_float(some, self._room[: len(some)])
            np.matmul(self._vectors, several.T, out=out[:, first : first + len(some)])
        return out


def to_float(halfs: NDArray[np.float16], out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Float16 [n, D] as float32, exactly, into `out` [n, D]."""
    torch = _loaded_torch()
    if torch is None or not halfs.flags.writeable:
        return _to_float32(halfs, out)
    torch.from_numpy(out).copy_(torch.from_numpy(halfs))
    return out


def _to_float32(halfs: NDArray[np.float16], out: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `to_float`, in a third of the time of NumPy's own conversion.

    Moved to their places in a float32, sign, exponent and fraction stand for the value times 2**-112.
    """
    bits = out.view(np.int32)
    np.left_shift(halfs.view(np.int16), 13, out=bits, dtype=np.int32, casting="unsafe")
    np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
    np.multiply(out, np.float32(2.0**112), out=out)
    # Infinities and NaN come out as 2**16 and more, which no finite float16 is.
    if out.size and (out.max() >= 65536 or out.min() <= -65536):
        np.copyto(out, halfs)
    return out


def _loaded_torch() -> Any:
    """PyTorch, which has the processor's own instructions for half floats, where a text encoder has loaded it."""
    return sys.modules.get("torch")
