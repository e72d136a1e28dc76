"""Nouns of captions: which visible things a caption says are in its photograph."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_LONGEST = 3  # words in a noun


@cache
def surface_forms() -> dict[str, str]:
    """Every word or phrase of nouns.txt, plurals included, to its noun."""
    forms: dict[str, str] = {}
    for line in (Path(__file__).parent / "nouns.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        noun, _, others = line.partition(":")
        for form in (noun, *others.split()):
            for spelled in (form, form + "s", form + "es"):
                forms.setdefault(spelled, noun)
    for line in (Path(__file__).parent / "nouns.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            forms[line.partition(":")[0]] = line.partition(":")[0]
    return forms


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
