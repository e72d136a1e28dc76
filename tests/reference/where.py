"""The filter language, slow and obvious: trees to text, and trees to SQL's true, false or unknown (None)."""

from __future__ import annotations

import operator
import re
from typing import Any

import numpy as np

COMPARE = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FLOAT32 = {"score", "bbox.x", "bbox.y", "bbox.width", "bbox.height"}


def render(tree: tuple[Any, ...]) -> str:
    """The text of a tree; every inner tree in parentheses, as a filter's author may write it."""
    match tree:
        case ("and" | "or" as word, *terms):
            return f" {word} ".join(f"({render(term)})" for term in terms)
        case ("not", term):
            return f"NOT ({render(term)})"
        case ("compare", name, sign, value):
            return f"{name} {sign} {literal(value)}"
        case ("flipped", name, sign, value):
            return f"{literal(value)} {sign} {name}"
        case ("columns", left, sign, right):
            return f"{left}{sign}{right}"
        case ("null", name, negate):
            return f"{name} is {'not ' if negate else ''}null"
        case ("between", name, low, high, negate):
            return f"{name} {'not ' if negate else ''}between {literal(low)} and {literal(high)}"
        case ("in", name, values, negate):
            return f"{name} {'not ' if negate else ''}in ({', '.join(map(literal, values))})"
        case ("like", name, pattern, negate):
            return f"{name} {'NOT ' if negate else ''}LIKE {literal(pattern)}"
    raise AssertionError(tree)


def literal(value: float | str) -> str:
    """A value as the language writes it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'" if '"' in value else f'"{value}"'
    return repr(value)


def evaluate(tree: tuple[Any, ...], row: dict[str, Any]) -> bool | None:
    """True, False, or None for unknown."""
    match tree:
        case ("and", *terms):
            found = [evaluate(term, row) for term in terms]
            return False if False in found else None if None in found else True
        case ("or", *terms):
            found = [evaluate(term, row) for term in terms]
            return True if True in found else None if None in found else False
        case ("not", term):
            return invert(evaluate(term, row), True)
        case ("compare", name, sign, value):
            return compare(cell(row, name), sign, as_column(name, value))
        case ("flipped", name, sign, value):
            return compare(as_column(name, value), sign, cell(row, name))
        case ("columns", left, sign, right):
            return compare(cell(row, left), sign, cell(row, right))
        case ("null", name, negate):
            return (cell(row, name) is None) != negate
        case ("between", name, low, high, negate):
            both = ("and", ("compare", name, ">=", low), ("compare", name, "<=", high))
            return invert(evaluate(both, row), negate)
        case ("in", name, values, negate):
            return invert(evaluate(("or", *(("compare", name, "=", value) for value in values)), row), negate)
        case ("like", name, pattern, negate):
            value = cell(row, name)
            return None if value is None else invert(matches_like(value, pattern), negate)
    raise AssertionError(tree)


def invert(found: bool | None, negate: bool) -> bool | None:
    """`not`, where asked; unknown stays unknown."""
    return found if found is None or not negate else not found


def compare(left: Any, sign: str, right: Any) -> bool | None:
    """A comparison, unknown where a side is null."""
    return None if left is None or right is None else bool(COMPARE[sign](left, right))


def cell(row: dict[str, Any], name: str) -> Any:
    """A column's value in a row, boxes by their parts."""
    if name.startswith("bbox."):
        return row["bbox"][["x", "y", "width", "height"].index(name[5:])]
    return row[name]


def as_column(name: str, value: float | str) -> float | str:
    """A number in the precision of its column."""
    return float(np.float32(value)) if name in FLOAT32 else value


def matches_like(value: str, pattern: str) -> bool:
    """SQL's LIKE through a regular expression."""
    parts, escaped = [], False
    for character in pattern:
        if escaped or character not in "%_\\":
            parts.append(re.escape(character))
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            parts.append(".*" if character == "%" else ".")
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None
