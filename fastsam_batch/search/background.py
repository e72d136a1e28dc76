"""Background texts: what else a mask could show, against which a text must hold its own.

A cosine alone does not say whether a mask shows what a text names: some texts are near to everything, and
every text has a nearest mask. CLIP is trained to tell the text of a picture from the texts of others, by a
softmax over their cosines, at a temperature that is learnt with it (Radford et al., 2021, section 2.3). The same
question is put to a mask here, at the same temperature: is it this text, or one of some hundred other things? The
answer needs no more than the mask itself, and so it does not depend on the size or the content of the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.errors import InputError
from fastsam_batch.search.texts import TEMPERATURE, EncodeTexts, TextEncoder, bare, text_vectors
from fastsam_batch.storage import renamed_when_whole

# One wording: the first search with an embedder encodes the whole background.
_TEMPLATES = ("a photo of a {}.",)
# A background text says the same as the query where its cosine lies this many deviations above the usual one.
_SAME = 3.0


@cache
def background_texts() -> tuple[str, ...]:
    """Everyday things, materials and places, a few hundred nouns: search/background.txt."""
    text = (files("fastsam_batch.search") / "background.txt").read_text(encoding="utf-8")
    return tuple(text.split("\n")[:-1])


@dataclass(frozen=True, eq=False)
class Background:
    """Unit vectors float32 [n, D] of texts, and the temperature of the model that made them."""

    vectors: NDArray[np.float32]
    temperature: float = TEMPERATURE

    def without(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> Background:
        """All of the whole background but what says the same as one of the texts, whose vectors are [t, D].

        Left out are texts of which one holds all words of the other (a cup, a cup of coffee), and those whose
        cosine is an outlier among the cosines of the whole background.
        """
        cosines = vectors @ self.vectors.T
        usual, spread = cosines.mean(axis=1, keepdims=True), cosines.std(axis=1, keepdims=True)
        same = (cosines > usual + _SAME * spread).any(axis=0)
        words = [_words(text) for text in texts]
        for number, other in enumerate(map(_words, background_texts())):
            same[number] |= any(other <= mine or mine <= other for mine in words)
        return Background(self.vectors[~same], self.temperature)

    def calibrate(self, similarities: NDArray[np.float32], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """How likely each mask shows a text rather than any of the background, float32 [n] in 0 to 1.

        `similarities` [n] are the text's cosines with the masks' `embeddings` [n, D].
        """
        others = embeddings.astype(np.float64) @ self.vectors.astype(np.float64).T
        with np.errstate(over="ignore"):  # infinitely worse than the background: 0
            odds = np.exp(self.temperature * (others - similarities.astype(np.float64)[:, None])).sum(axis=1)
        return np.asarray(1 / (1 + odds), np.float32)


def background_of(encode: EncodeTexts) -> Background:
    """The background texts in a model's words; TEMPERATURE is the model's where `encode` does not say it."""
    return Background(text_vectors(background_texts(), encode, _TEMPLATES), _temperature(encode))


def cached_background(encode: EncodeTexts, sha256: Mapping[str, str]) -> Background:
    """As `background_of`, computed once for an embedder with these weights and then kept in the cache folder.

    A folder that cannot be written or a file that cannot be read costs the seconds of computing anew, no more.
    """
    from fastsam_batch.models.weights import cache_folder

    parts = [*sorted(sha256.values()), *_TEMPLATES, *background_texts()]
    name = f"background-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:16]}.npy"
    try:
        stored: NDArray[np.float32] = np.load(cache_folder() / name, allow_pickle=False)
        return Background(stored, _temperature(encode))
    except (OSError, ValueError, EOFError):  # none there yet, or damaged
        background = background_of(encode)
    with suppress(OSError, InputError), renamed_when_whole(str(cache_folder() / name)) as file:
        np.save(file, background.vectors)
    return background


def _temperature(encode: EncodeTexts) -> float:
    return encode.temperature if isinstance(encode, TextEncoder) else TEMPERATURE


def _words(text: str) -> frozenset[str]:
    return frozenset(bare(text).lower().split())
