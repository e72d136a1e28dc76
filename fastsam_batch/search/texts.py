"""Texts to query vectors: prompt templates, averaged."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.errors import InputError

# Method: CLIP (Radford et al., 2021), section 3.1.4, prompt ensembling in embedding space. The wordings suit
# crops of one thing, which is what the corpus embeds.
TEMPLATES = (
    "{}",
    "a photo of a {}.",
    "a photo of the {}.",
    "a close-up photo of a {}.",
    "a cropped photo of a {}.",
    "a {} on a plain background.",
)

_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)

# What parts the alternatives of one query: "a cup|a mug".
ALTERNATIVE = "|"

EncodeTexts = Callable[[Sequence[str]], NDArray[np.float32]]

# What CLIP's cosines are multiplied with before a softmax, at the end of its training: its own limit, at which its
# published models arrive.
TEMPERATURE = 100.0


@dataclass(frozen=True)
class TextEncoder:
    """A model's `EncodeTexts`, with the temperature that it was trained to."""

    encode: EncodeTexts
    temperature: float

    def __call__(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 [n, D] of n sentences."""
        return self.encode(sentences)


def text_vectors(
    texts: Sequence[str], encode: EncodeTexts, templates: Sequence[str] = TEMPLATES
) -> NDArray[np.float32]:
    """Query vectors float32 [n_texts, D], unit length: the mean over the templates of each text.

    An article at the start of a text is dropped, for the templates bring their own.
    `encode` gives float32 [n, D], unit length, of n sentences. Raises InputError for no or an empty text.
    """
    if not texts:
        raise InputError("there is no text to search for; name at least one")
    for text in texts:
        if not text.strip():
            raise InputError("a text to search for is empty; write what the mask should show")
    nouns = [bare(text) for text in texts]
    sentences = [template.replace("{}", noun) for noun in nouns for template in templates]
    vectors = encode(sentences).reshape(len(texts), len(templates), -1).mean(axis=1)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def bare(text: str) -> str:
    """The text without an article at its start and spaces around."""
    return _ARTICLE.sub("", text.strip())


def alternatives(text: str) -> list[str]:
    """The texts of a query, of which any will do: `a cup|a mug` is two. Raises InputError for an empty one."""
    parts = [part.strip() for part in text.split(ALTERNATIVE)]
    if len(parts) > 1 and not all(parts):
        raise InputError(f"the text {text!r} has an empty alternative; write something on both sides of each |")
    return list(dict.fromkeys(parts))
