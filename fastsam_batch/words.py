"""Numbers with their nouns, as messages say them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 mask`, `0 masks`, `12,345 masks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
