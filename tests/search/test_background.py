"""Calibrated scores: the text against everything else a mask could show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from corpus.made_corpus import DIM, MadeCorpus
from reference.search import cosine

from fastsam_batch import Corpus
from fastsam_batch.errors import InputError
from fastsam_batch.search.background import (
    Background,
    background_of,
    background_texts,
    cached_background,
)
from fastsam_batch.search.find import find_masks
from fastsam_batch.search.texts import TEMPERATURE, TextEncoder, text_vectors
from fastsam_batch.search.thresholds import MIN_CALIBRATED, least_calibrated


def encode(sentences: Sequence[str]) -> np.ndarray:
    vectors = [np.random.default_rng(list(sentence.encode())).normal(size=DIM) for sentence in sentences]
    return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


def test_the_background_is_a_list_of_different_nouns() -> None:
    texts = background_texts()
    assert len(set(texts)) == len(texts) > 300
    assert all(text == text.strip().lower() and text for text in texts)
    assert background_of(encode).vectors.shape == (len(texts), DIM)


@pytest.mark.parametrize("temperature", [TEMPERATURE, 27.0])
def test_a_softmax_over_the_text_and_the_background(temperature: float) -> None:
    random = np.random.default_rng(0)
    embeddings, background = random.normal(size=(5, 8)) / 8, random.normal(size=(20, 8)) / 8
    similarities = random.uniform(-1, 1, 5)
    found = Background(background.astype(np.float32), temperature).calibrate(
        similarities.astype(np.float32), embeddings.astype(np.float32)
    )
    for probability, similarity, embedding in zip(found, similarities, embeddings, strict=True):
        own = math.exp(temperature * similarity)
        others = sum(math.exp(temperature * float(embedding @ other)) for other in background)
        assert probability == pytest.approx(own / (own + others), rel=1e-4, abs=1e-12)


def test_what_says_the_same_is_no_background() -> None:
    texts = list(background_texts())
    background = background_of(TextEncoder(encode, 30.0))
    left = background.without(["a tree"], text_vectors(["a tree"], encode))
    assert left.temperature == 30.0
    kept = {row.tobytes() for row in left.vectors}
    without = {text for text, row in zip(texts, background.vectors, strict=True) if row.tobytes() not in kept}
    assert without == {"tree", "palm tree"}
    # A vector that hardly differs from one of the background's is an outlier among the cosines.
    near = background.vectors[[texts.index("piano")]]
    left = background.without(["a pianoforte"], near)
    assert len(left.vectors) == len(texts) - 1 and near[0].tobytes() not in {row.tobytes() for row in left.vectors}


def test_a_text_that_only_resembles_says_no(made: MadeCorpus) -> None:
    """One mask is what its text says, another is nearer to the text than any other but is a piano."""
    corpus = Corpus.open(made.uri)
    rows = {(row["image_id"], row["mask_index"]): row for row in made.masks}
    stored = [np.asarray(rows["coffee.png", index]["embedding"], np.float32) for index in (2, 3)]

    def encode_as(sentences: Sequence[str]) -> np.ndarray:
        vectors = encode(sentences)
        for sentence, vector in zip(sentences, vectors, strict=True):
            if "xylophone" in sentence:
                vector[:] = stored[0] / np.linalg.norm(stored[0])
            if "zebra" in sentence or sentence == "a photo of a piano.":
                vector[:] = stored[1] * (0.65 if "zebra" in sentence else 1) / np.linalg.norm(stored[1])
                if "zebra" in sentence:
                    side = np.eye(DIM, dtype=np.float32)[0] - stored[1] * stored[1][0]
                    vector += 0.76 * side / np.linalg.norm(side)
        return vectors

    hits = find_masks(corpus, ["xylophone", "zebra"], encode=encode_as, min_calibrated=MIN_CALIBRATED, top_k=1)
    assert hits.select(["text", "image_id", "mask_index"]).to_pylist() == [
        {"text": "xylophone", "image_id": "coffee.png", "mask_index": 2}
    ]
    assert find_masks(corpus, ["zebra"], encode=encode_as, top_k=1)["mask_index"].to_pylist() == [3]


@pytest.mark.parametrize("least", [0.0, 0.1, 0.9])
def test_calibrated_hits_against_the_slow_sum(made: MadeCorpus, least: float) -> None:
    corpus = Corpus.open(made.uri)
    background = Background(background_of(encode).vectors, 27.0)
    vector = text_vectors(["xylophone"], encode)[0]
    hits = find_masks(corpus, ["xylophone"], top_k=100, min_calibrated=least, encode=encode, background=background)
    others = background.without(["xylophone"], vector[None]).vectors
    expected = {}
    for row in made.masks:
        if row["embedding"] is not None:
            odds = sum(math.exp(27.0 * (cosine(row, other) - cosine(row, vector))) for other in others)
            expected[row["image_id"], row["mask_index"]] = 1 / (1 + odds)
    found = {(row["image_id"], row["mask_index"]): row["calibrated"] for row in hits.to_pylist()}
    assert found == pytest.approx({key: value for key, value in expected.items() if value >= least}, rel=1e-3)


def test_uncalibrated_hits_say_so(made: MadeCorpus) -> None:
    corpus = Corpus.open(made.uri)
    assert find_masks(corpus, ["cat"], encode=encode)["calibrated"].null_count == 10
    # Cosines of masks with masks are of another kind: the threshold leaves them alone.
    hits = find_masks(corpus, like=[("coffee.png", 3)], top_k=3, min_calibrated=1.0)
    assert len(hits) == hits["calibrated"].null_count == 3


def test_a_score_that_is_none(made: MadeCorpus) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        find_masks(Corpus.open(made.uri), ["cat"], encode=encode, min_calibrated=1.1)


def test_the_background_is_encoded_once(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FASTSAM_BATCH_CACHE", str(tmp_path))
    asked = []

    def counted(sentences: Sequence[str]) -> np.ndarray:
        asked.append(len(sentences))
        return encode(sentences)

    first = cached_background(counted, {"weights": "a" * 64})
    again = cached_background(TextEncoder(counted, 27.0), {"weights": "a" * 64})
    np.testing.assert_array_equal(again.vectors, first.vectors)
    assert len(asked) == 1 and first.temperature == TEMPERATURE and again.temperature == 27.0
    cached_background(counted, {"weights": "b" * 64})
    assert len(asked) == 2


def test_a_cache_that_cannot_be_used_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    expected = background_of(encode).vectors
    monkeypatch.setenv("FASTSAM_BATCH_CACHE", str(tmp_path))
    cached_background(encode, {"weights": "a" * 64})
    (file,) = tmp_path.iterdir()
    for damaged in (b"", b"no vectors", file.read_bytes()[:200]):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(cached_background(encode, {"weights": "a" * 64}).vectors, expected)
        np.testing.assert_array_equal(np.load(file), expected)  # mended
    file.unlink()
    file.mkdir()  # the name is taken, so that the file cannot be put there
    np.testing.assert_array_equal(cached_background(encode, {"weights": "a" * 64}).vectors, expected)
    assert list(tmp_path.iterdir()) == [file]
    (tmp_path / "in the way").touch()
    monkeypatch.setenv("FASTSAM_BATCH_CACHE", str(tmp_path / "in the way" / "cache"))
    np.testing.assert_array_equal(cached_background(encode, {"weights": "a" * 64}).vectors, expected)


def test_what_a_search_shows_where_nobody_says_it() -> None:
    assert least_calibrated(None, None) == MIN_CALIBRATED
    assert least_calibrated(None, 0.2) is None
    assert [least_calibrated(0.0, score) for score in (None, 0.2)] == [0, 0]
