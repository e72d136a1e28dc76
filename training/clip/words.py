"""Texts to teach a text tower: nouns, glosses, adjectives with nouns, captions, each with its template-free target.

WordNet is read from its database files (Debian `wordnet-base` installs them in /usr/share/wordnet).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastsam_batch.errors import InputError
from training.clip.nouns import surface_forms

# Lexicographer files of things that can be seen: animal, artifact, body, food, object, person, plant, substance.
_CONCRETE = {"05", "06", "08", "13", "17", "18", "20", "27"}
TEMPLATES = (
    "{}",
    "a {}",
    "the {}",
    "a photo of a {}",
    "a photo of the {}",
    "a picture of a {}",
    "an image of a {}",
    "a photo of one {}",
    "a close-up of a {}",
    "a close-up photo of the {}",
    "a cropped photo of a {}",
    "a good photo of a {}",
    "a bright photo of a {}",
    "a dark photo of a {}",
    "a blurry photo of a {}",
    "a photo of a small {}",
    "a photo of a large {}",
    "there is a {}",
    "some {}",
    "one {}",
)
ADJECTIVES = (
    *("red", "blue", "green", "yellow", "white", "black", "brown", "orange", "grey", "pink", "purple"),
    *("small", "large", "old", "new", "round", "wooden", "metal", "plastic", "striped", "empty", "open", "wet"),
)
SHARES = {"nouns": 0.72, "captions": 0.14, "glosses": 0.06, "described": 0.08}
_CLASS_NAMES_WEIGHT = 40


@dataclass
class Words:
    """Texts by group, with how often a noun is to come up."""

    nouns: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    glosses: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)


def read_words(class_names: list[str], data: Path, wordnet: Path) -> Words:
    """All texts. Raises InputError where WordNet is not found."""
    if not (wordnet / "data.noun").is_file():
        raise InputError(f"--wordnet {wordnet}: holds no data.noun; install Debian's wordnet-base")
    words = Words()
    often = dict.fromkeys([*class_names, *surface_forms().values()], float(_CLASS_NAMES_WEIGHT))
    for line in (wordnet / "data.noun").read_text(encoding="latin-1").splitlines():
        fields = line.split(" ")
        if line.startswith(" ") or fields[1] not in _CONCRETE:
            continue
        names = [name.replace("_", " ").lower() for name in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
        for name in names:
            often.setdefault(name, 1.0)
        words.glosses.append(f"{names[0]}: {line.partition('| ')[2].partition(';')[0].strip()}")
    words.nouns, words.weights = list(often), list(often.values())
    captions = data / "coco-captions" / "captions.json"
    if captions.is_file():
        images = json.loads(captions.read_text(encoding="utf-8"))["images"]
        words.captions = [caption.strip() for image in images for caption in image["captions"]]
    return words


def draw(words: Words, count: int, rng: np.random.Generator) -> tuple[list[str], list[tuple[str, str]]]:
    """`count` texts as the student reads them, and for each the (group, text) whose vector is its target."""
    texts, targets = [], []
    weights = np.array(words.weights) / sum(words.weights)
    whole_texts = {"captions": words.captions, "glosses": words.glosses}
    nouns = iter(rng.choice(len(words.nouns), count, p=weights))
    for group in rng.choice(list(SHARES), count, p=list(SHARES.values())):
        if whole := whole_texts.get(str(group)):
            text = whole[rng.integers(len(whole))]
            texts.append(text)
            targets.append((str(group), text))
            continue
        noun = words.nouns[next(nouns)]
        if group == "described":
            noun = f"{ADJECTIVES[rng.integers(len(ADJECTIVES))]} {noun}"
        texts.append(TEMPLATES[rng.integers(len(TEMPLATES))].format(noun))
        targets.append(("nouns", noun))
    return texts, targets
