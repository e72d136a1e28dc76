"""The texts a text tower is taught with, and the loss that teaches it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastsam_batch.errors import InputError
from training.clip.distil import distillation_loss
from training.clip.words import ADJECTIVES, draw, read_words

NOUNS = """  1 This is the licence.
02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 000 | a member of the genus Canis; "it barked"
05809192 09 n 01 idea 0 001 @ 05809192 n 0000 | the content of cognition
"""


@pytest.fixture
def words(tmp_path, data_folder):
    (tmp_path / "data.noun").write_text(NOUNS)
    return read_words(["cat"], data_folder, tmp_path)


def test_words_are_classes_nouns_and_concrete_wordnet(words):
    assert {"cat", "motorcycle", "dog", "domestic dog", "canis familiaris"} <= set(words.nouns)
    assert "idea" not in words.nouns
    assert words.glosses == ["dog: a member of the genus Canis"]
    assert words.captions and all(" beside a " in caption for caption in words.captions)
    assert words.weights[words.nouns.index("cat")] > words.weights[words.nouns.index("domestic dog")]


def test_targets_have_no_template(words):
    texts, targets = draw(words, 400, np.random.default_rng(0))
    assert len(texts) == len(targets) == 400
    described = 0
    for text, (group, target) in zip(texts, targets, strict=True):
        assert target in text
        if group == "nouns":
            described += target.split()[0] in ADJECTIVES
            assert target in words.nouns or target.split(" ", 1)[1] in words.nouns
        else:
            assert target in getattr(words, group)
    assert 10 < described < 70


def test_the_loss_is_least_at_the_targets():
    targets = torch.nn.functional.normalize(torch.randn(12, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    targets[5] = targets[4]  # one noun under two templates
    best = distillation_loss(targets, targets)
    off = torch.nn.functional.normalize(targets + 0.3 * torch.roll(targets, 1, 0), dim=1)
    assert best < 0.5 * distillation_loss(off, targets)


def test_wordnet_is_asked_for(tmp_path, data_folder):
    with pytest.raises(InputError, match="wordnet-base"):
        read_words([], data_folder, tmp_path)
