"""The filter language as SQL, for engines that take nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from fastsam_batch.corpus.predicates import Column, Value, value_set
from fastsam_batch.corpus.where import build_where


class NotInSql(ValueError):
    """The filter is right, but says something that this SQL cannot say in the same sense."""


def where_sql(text: str, columns: Mapping[str, pa.DataType], known: frozenset[str]) -> str:
    """The rows that `parse_where` keeps, as a condition of plain SQL over columns named in `known`.

    The parts of a box are columns `bbox_x`, `bbox_y`, `bbox_width` and `bbox_height` there. Raises InputError
    as `parse_where`, and NotInSql for another column or a pattern with an escape.
    """
    return build_where(text, columns, _SqlBuild(known))


class _SqlBuild:
    """Filters as text. Every condition is in parentheses."""

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known

    def both(self, first: str, second: str) -> str:
        return f"({first} AND {second})"

    def either(self, first: str, second: str) -> str:
        return f"({first} OR {second})"

    def invert(self, expression: str) -> str:
        return f"(NOT {expression})"

    def is_null(self, column: Column) -> str:
        return f"({self._name(column)} IS NULL)"

    def compare(self, column: Column, sign: str, other: Column | Value) -> str:
        sign = {"==": "=", "!=": "<>"}.get(sign, sign)
        name = self._name(column)
        if isinstance(other, Column):
            return self._columns(column, sign, other)
        if isinstance(other.value, str):
            return f"({name} {sign} {_text(other.value)})"
        if pa.types.is_floating(column.type):
            return f"({name} {sign} {_float(other.value)})"
        return _integer_condition(name, sign, other.value, column.type.bit_width)

    def is_in(self, column: Column, values: Sequence[int | float | str]) -> str:
        name = self._name(column)
        found = value_set(values, column.type).to_pylist()
        if not found:
            return _never(name)
        write = _text if column.kind == "text" else _float if pa.types.is_floating(column.type) else str
        return f"({name} IN ({', '.join(write(value) for value in found)}))"

    def like(self, column: Column, pattern: str) -> str:
        if "\\" in pattern:
            raise NotInSql("a pattern with an escape")
        return f"({self._name(column)} LIKE {_text(pattern)})"

    def _columns(self, column: Column, sign: str, other: Column) -> str:
        first, second = self._name(column), self._name(other)
        if column.type != other.type:
            first, second = f"CAST({first} AS DOUBLE)", f"CAST({second} AS DOUBLE)"
        return f"({first} {sign} {second})"

    def _name(self, column: Column) -> str:
        name = column.token.text.replace(".", "_")
        if name not in self._known:
            raise NotInSql(f"the column {column.token.text}")
        return name


def _integer_condition(name: str, sign: str, value: int | float, bits: int) -> str:
    """A comparison of an integer column that stays within integers, for engines that convert the literal."""
    if sign in ("=", "<>") and value != int(value):
        return _never(name) if sign == "=" else _always(name)
    whole = {"<": math.ceil, ">=": math.ceil, "<=": math.floor, ">": math.floor}.get(sign, int)(value)
    most = 2 ** (bits - 1)
    if -most <= whole < most:
        return f"({name} {sign} {whole})"
    holds = sign == "<>" or (sign in ("<", "<=")) == (whole > 0)
    return _always(name) if holds and sign != "=" else _never(name)


def _always(name: str) -> str:
    return f"({name} = {name})"


def _never(name: str) -> str:
    return f"({name} <> {name})"


def _text(value: str | int | float) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _float(value: str | int | float) -> str:
    """A number in the precision of a float32 column, so that both are equal where they are in the files."""
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value))
    return repr(rounded) if math.isfinite(rounded) else f"CAST('{rounded}' AS FLOAT)"
