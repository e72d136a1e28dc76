"""Nouns of captions: which visible things a caption says are in its photograph."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_LONGEST = 3  # words in a noun
_KINDS = {  # of things: what captions call them
    "person": "baseball player, boy, bride, chef, child, cowboy, farmer, girl, jockey, man, motorcyclist, "
    "photographer, police officer, rider, skateboarder, skater, skier, snowboarder, student, surfer, tennis player, "
    "umpire, woman",
    "backpack": "bag",
    "bird": "chicken, duck, pigeon",
    "boat": "canoe, sailboat, ship",
    "car": "cab, van",
    "cow": "bull, cattle",
    "dining table": "desk, table",
    "handbag": "bag",
    "motorcycle": "moped, scooter",
    "remote": "controller",
    "skis": "ski",
    "sports ball": "ball, baseball, soccer ball, tennis ball",
    "suitcase": "bag, luggage",
    "tennis racket": "racket",
    "train": "locomotive, subway, tram",
    "truck": "trailer, van",
    "tv": "monitor, television",
}


@cache
def surface_forms() -> dict[str, str]:
    """Every word or phrase of nouns.txt, plurals included, to its noun.

    A noun is its own, be it another one's word or plural too; what else two nouns share is the first one's.
    """
    lines = (Path(__file__).parent / "nouns.txt").read_text(encoding="utf-8").splitlines()
    split = [line.partition(":") for line in lines if line and not line.startswith("#")]
    forms_of = [(noun, (noun, *others.split())) for noun, _, others in split]
    nouns = {noun: noun for noun, _ in forms_of}
    for noun, forms in forms_of:
        for form in forms:
            for spelled in (form, form + "s", form + "es"):
                nouns.setdefault(spelled, noun)
    return nouns


def nouns_of(caption: str) -> list[str]:
    """The caption's nouns in order, longest phrases first, each once."""
    words = re.findall(r"[a-z]+", caption.lower())
    forms = surface_forms()
    found: list[str] = []
    at = 0
    while at < len(words):
        for length in range(min(_LONGEST, len(words) - at), 0, -1):
            noun = forms.get(" ".join(words[at : at + length]))
            if noun is not None:
                found.append(noun)
                at += length
                break
        else:
            at += 1
    return list(dict.fromkeys(found))


def kinds_of(name: str) -> frozenset[str]:
    """The nouns by which a caption may mean a thing of this name: a person is a man, a woman, a skier."""
    return frozenset(_KINDS[name].split(", ")) if name in _KINDS else frozenset()
