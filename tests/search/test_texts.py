"""Texts to query vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fastsam_batch.errors import InputError
from fastsam_batch.search.texts import TEMPLATES, text_vectors


def encode(sentences: Sequence[str]) -> np.ndarray:
    """A vector a sentence that depends on its every character."""
    vectors = [np.random.default_rng(list(sentence.encode())).normal(size=8) for sentence in sentences]
    return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


def test_the_mean_of_the_templates_has_unit_length() -> None:
    vectors = text_vectors(["red car", "one {brace}"], encode)
    assert vectors.shape == (2, 8)
    assert vectors.dtype == np.float32
    for text, vector in zip(["red car", "one {brace}"], vectors, strict=True):
        mean = np.mean([encode([template.replace("{}", text)])[0] for template in TEMPLATES], axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=1e-5)


def test_own_templates_and_spaces_around() -> None:
    np.testing.assert_allclose(text_vectors([" cat\n"], encode, ["{}"]), encode(["cat"]), rtol=1e-6)


@pytest.mark.parametrize("text", ["a cat", "The  cat", "an cat", "cat"])
def test_an_article_is_dropped(text: str) -> None:
    np.testing.assert_array_equal(text_vectors([text], encode), text_vectors(["cat"], encode))


def test_only_an_article_in_front_is_dropped() -> None:
    assert not np.array_equal(text_vectors(["theatre"], encode), text_vectors(["atre"], encode))
    assert not np.array_equal(text_vectors(["cat in the hat"], encode), text_vectors(["cat in hat"], encode))


@pytest.mark.parametrize("texts", [[], [""], ["cat", "  "]])
def test_no_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(InputError, match="search for"):
        text_vectors(texts, encode)
