"""Arguments checked in one way: numbers out of range, and one name where several may be."""

from __future__ import annotations

import math
from collections.abc import Iterable

from fastsam_batch.errors import InputError


def check_range(option: str, value: float | None, low: float, high: float = math.inf) -> None:
    """Raise InputError, naming the option, unless its value is None or a finite number from `low` to `high`."""
    if value is None or (low <= value <= high and value != math.inf):  # a NaN is in no range
        return
    wanted = f"{low:g} or more" if high == math.inf else f"a number from {low:g} to {high:g}"
    said = f"{value:g}" if isinstance(value, float) else value
    raise InputError(f"{option} {said}: give {wanted}")


def several(names: str | Iterable[str]) -> list[str]:
    """Each of the names once, in order; a name alone is one, not its letters."""
    return list(dict.fromkeys([names] if isinstance(names, str) else names))
