"""Conditions on columns that keep SQL's meaning: exact numbers, null is unknown. Here as pyarrow expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch.corpus.tokens import Token

E = TypeVar("E")

_BOX_PARTS = {"x": 0, "y": 1, "width": 2, "height": 3}
COMPARE: dict[str, Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
# The sign that says the same with both sides exchanged.
MIRRORED = {"=": "=", "==": "==", "!=": "!=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Column:
    """A column named in the filter, as an expression."""

    expression: pc.Expression
    type: pa.DataType
    token: Token

    @property
    def kind(self) -> str:
        """What it holds, as a message says it."""
        if pa.types.is_integer(self.type) or pa.types.is_floating(self.type):
            return "numbers"
        if pa.types.is_string(self.type) or pa.types.is_large_string(self.type):
            return "text"
        return "neither numbers nor text"


@dataclass(frozen=True)
class Value:
    """A number or text written in the filter."""

    value: int | float | str
    token: Token

    @property
    def kind(self) -> str:
        """What it holds, as a message says it."""
        return "text" if isinstance(self.value, str) else "numbers"


class Build(Protocol[E]):
    """How a filter becomes an expression of some kind."""

    def both(self, first: E, second: E) -> E:
        """True where both are."""

    def either(self, first: E, second: E) -> E:
        """True where one is."""

    def invert(self, expression: E) -> E:
        """Not; unknown stays unknown."""

    def is_null(self, column: Column) -> E:
        """True where the column is null, else false."""

    def compare(self, column: Column, sign: str, other: Column | Value) -> E:
        """A comparison by one of the signs of COMPARE, in the column's own precision."""

    def is_in(self, column: Column, values: Sequence[int | float | str]) -> E:
        """The column equals one of the values; unknown where it is null."""

    def like(self, column: Column, pattern: str) -> E:
        """SQL's LIKE, with a backslash that escapes."""


class ArrowBuild:
    """Filters as pyarrow expressions."""

    def both(self, first: pc.Expression, second: pc.Expression) -> pc.Expression:
        return first & second

    def either(self, first: pc.Expression, second: pc.Expression) -> pc.Expression:
        return first | second

    def invert(self, expression: pc.Expression) -> pc.Expression:
        return ~expression

    def is_null(self, column: Column) -> pc.Expression:
        return column.expression.is_null()

    def compare(self, column: Column, sign: str, other: Column | Value) -> pc.Expression:
        return COMPARE[sign](*sides(column, other))

    def is_in(self, column: Column, values: Sequence[int | float | str]) -> pc.Expression:
        # Arrow's is_in calls a null "not in", which a `not` before it would turn into a match.
        unknown = column.expression.is_null() & pc.scalar(pa.scalar(None, pa.bool_()))
        return column.expression.isin(value_set(values, column.type)) | unknown

    def like(self, column: Column, pattern: str) -> pc.Expression:
        return pc.match_like(column.expression, pattern)


def filterable(columns: Mapping[str, pa.DataType]) -> dict[str, tuple[pc.Expression, pa.DataType]]:
    """What a filter may name, with its type: the columns, and the parts of a `bbox`."""
    names = {name: (pc.field(name), kind) for name, kind in columns.items()}
    box = columns.get("bbox")
    if box is not None and pa.types.is_fixed_size_list(box) and box.list_size == len(_BOX_PARTS):
        for part, index in _BOX_PARTS.items():
            names[f"bbox.{part}"] = (pc.list_element(pc.field("bbox"), index), box.value_type)
    return names


def sides(column: Column, other: Column | Value) -> tuple[pc.Expression, pc.Expression]:
    """Both sides in a type in which they compare exactly; Arrow left alone would take int32 to float32."""
    wide = column.expression.cast(pa.float64())
    if isinstance(other, Column):
        same = column.type == other.type
        return (column.expression, other.expression) if same else (wide, other.expression.cast(pa.float64()))
    value = other.value
    if isinstance(value, str):
        return column.expression, pc.scalar(value)
    if pa.types.is_floating(column.type):
        return column.expression, pc.scalar(pa.scalar(float(value), column.type))
    if value == int(value) and abs(value) < 2**62:
        return column.expression, pc.scalar(int(value))
    return wide, pc.scalar(float(value))


def value_set(values: Sequence[int | float | str], column: pa.DataType) -> pa.Array:
    """The values that a column of this type can equal, as an array of the type."""
    if pa.types.is_integer(column):
        bits = column.bit_width - (1 if pa.types.is_signed_integer(column) else 0)
        low = -(2**bits) if pa.types.is_signed_integer(column) else 0
        values = [int(value) for value in values if value == int(value) and low <= value < 2**bits]
    elif pa.types.is_floating(column):
        # is_in compares bits, and so tells 0.0 from -0.0.
        values = [zero for value in values for zero in ((0.0, -0.0) if value == 0 else (float(value),))]
    return pa.array(values, column)


def balanced(terms: list[E], join: Callable[[E, E], E]) -> E:
    """The terms joined pairwise, in order; at least one."""
    # Arrow walks expressions by recursion: a balanced tree keeps a long chain of `or` shallow.
    while len(terms) > 1:
        pairs = [join(a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2 :]
    return terms[0]
