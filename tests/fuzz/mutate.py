"""Damage to bytes and texts: a few operations, drawn by hypothesis in the suite and by a generator in `make fuzz`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

NUMBERS = [0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
OPERATIONS = ("set", "flip", "big", "little", "cut", "drop", "repeat", "splice", "zero")


class Damage(NamedTuple):
    """One operation at a place, both fractions of the length and a number."""

    operation: str
    place: float
    number: int
    length: float


def damaged(data: bytes, damages: Sequence[Damage], other: bytes = b"") -> bytes:
    """The data after all damages, in order; `other` is what is spliced in."""
    for operation, place, number, length in damages:
        at = int(place * len(data))
        size = 1 + int(length * 64)
        if operation == "set":
            data = data[:at] + bytes([number % 256]) + data[at + 1 :]
        elif operation == "flip" and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << number % 8)]) + data[at + 1 :]
        elif operation in ("big", "little"):
            width = (2, 4)[number % 2]
            data = data[:at] + (number % 256**width).to_bytes(width, operation) + data[at + width :]  # type: ignore[arg-type]
        elif operation == "cut":
            data = data[:at]
        elif operation == "drop":
            data = data[:at] + data[at + size :]
        elif operation == "repeat":
            data = data[: at + size] + data[at:]
        elif operation == "splice":
            data = data[:at] + other[int(length * len(other)) :]
        elif operation == "zero":
            data = data[:at] + bytes(size) + data[at + size :]
    return data


def draw(generator: random.Random) -> list[Damage]:
    """One to eight damages; a place near the front, where headers lie, as often as anywhere."""
    return [
        Damage(
            generator.choice(OPERATIONS),
            generator.random() ** generator.choice((1, 1, 4, 12)),
            generator.choice((generator.choice(NUMBERS), generator.randrange(2**32))),
            generator.random(),
        )
        for _ in range(generator.choice((1, 1, 2, 3, 5, 8)))
    ]
