"""Numbers with their nouns and names of others' making, as messages say them."""

from __future__ import annotations

from unicodedata import category


def counted(number: int, noun: str) -> str:
    """`1 mask`, `0 masks`, `12,345 masks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown(text: str) -> str:
    """A name from elsewhere on one line: no sign in it moves a terminal's cursor or begins a line of its own."""
    return "".join(sign if sign.isprintable() or category(sign) == "Zs" else "\ufffd" for sign in text)
