"""The small filter language of --where: text to a pyarrow expression, by hand, without eval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Generic

import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch.corpus.predicates import (
    COMPARE,
    MIRRORED,
    ArrowBuild,
    Build,
    Column,
    E,
    Value,
    balanced,
    filterable,
)
from fastsam_batch.corpus.tokens import Token, fault, shorten, tokenize
from fastsam_batch.errors import InputError

MAX_LENGTH = 100_000
MAX_DEPTH = 64


def parse_where(text: str, columns: Mapping[str, pa.DataType]) -> pc.Expression:
    """The rows to keep, as an expression that a pyarrow dataset pushes down to its files.

    Grammar, keywords in any case: `and`, `or`, `not`, parentheses; `= == != <> < <= > >=`;
    `[not] in (a, b)`; `[not] between a and b`; `is [not] null`; `[not] like 'a%'` (`%` stands for any text,
    `_` for one character, `\\` escapes). Values are numbers, and texts in single or double quotes with a
    quote inside doubled. A column `bbox` is compared by its parts `bbox.x`, `bbox.y`, `bbox.width`,
    `bbox.height`. As in SQL, a comparison with null is neither true nor false, and such rows are left out.
    A number is compared in its column's own precision: `score = 0.9` finds the float32 nearest to 0.9.

    Raises InputError that says where and what was expected.
    """
    return build_where(text, columns, ArrowBuild())


def build_where(text: str, columns: Mapping[str, pa.DataType], build: Build[E]) -> E:
    """As `parse_where`, for another kind of expression."""
    if len(text) > MAX_LENGTH:
        raise InputError(f"the filter has {len(text)} characters; write it in {MAX_LENGTH} or fewer")
    return _Parser(text, columns, build).parse()


class _Parser(Generic[E]):
    """Recursive descent over the tokens; only parentheses recurse, and their depth is bounded."""

    def __init__(self, text: str, columns: Mapping[str, pa.DataType], build: Build[E]) -> None:
        self.text = text
        self.build = build
        self.columns = filterable(columns)
        self.tokens = tokenize(text)
        self.index = 0
        self.depth = 0

    def parse(self) -> E:
        expression = self._either()
        if self._here.kind != "end":
            raise self._expected("and, or, or the end")
        return expression

    @property
    def _here(self) -> Token:
        return self.tokens[self.index]

    def _take(self, *texts: str) -> Token | None:
        """The token here, stepped over, where it is one of these keywords or signs."""
        token = self._here
        if token.kind not in ("keyword", "sign") or token.text not in texts:
            return None
        self.index += 1
        return token

    def _require(self, text: str) -> None:
        if self._take(text) is None:
            raise self._expected(text)

    def _either(self) -> E:
        terms = [self._both()]
        while self._take("or"):
            terms.append(self._both())
        return balanced(terms, self.build.either)

    def _both(self) -> E:
        terms = [self._negated()]
        while self._take("and"):
            terms.append(self._negated())
        return balanced(terms, self.build.both)

    def _negated(self) -> E:
        negate = False
        while self._take("not"):
            negate = not negate
        expression = self._parenthesised() if self._take("(") else self._condition()
        return self.build.invert(expression) if negate else expression

    def _parenthesised(self) -> E:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._expected(f"at most {MAX_DEPTH} parentheses inside one another")
        expression = self._either()
        self._require(")")
        self.depth -= 1
        return expression

    def _condition(self) -> E:
        left = self._operand()
        if sign := self._take(*COMPARE):
            return self._compare(left, sign.text, self._operand())
        if self._take("is"):
            negate = self._take("not") is not None
            self._require("null")
            column = self._column_of(left, "is null")
            expression = self.build.is_null(column)
            return self.build.invert(expression) if negate else expression
        negate = self._take("not") is not None
        if self._take("between"):
            low = self._compare(left, ">=", self._operand())
            self._require("and")
            expression = self.build.both(low, self._compare(left, "<=", self._operand()))
        elif self._take("in"):
            expression = self._is_in(self._column_of(left, "in"))
        elif self._take("like"):
            expression = self._like(self._column_of(left, "like"))
        else:
            raise self._expected("in, between or like" if negate else "a comparison such as >=, in, like or is null")
        return self.build.invert(expression) if negate else expression

    def _operand(self) -> Column | Value:
        token = self._here
        if token.kind != "name":
            return self._value("a column or a value")
        self.index += 1
        if token.text not in self.columns:
            names = ", ".join(sorted(self.columns))
            raise self._fault(token.position, f"there is no column {token.text}; the columns are {names}")
        return Column(*self.columns[token.text], token)

    def _value(self, expected: str = "a value") -> Value:
        sign = self._take("-", "+")
        token = self._here
        if token.kind == "number":
            self.index += 1
            return Value(self._number(token, negative=sign is not None and sign.text == "-"), token)
        if token.kind == "text" and sign is None:
            self.index += 1
            return Value(self._unquoted(token), token)
        raise self._expected("a number" if sign else expected)

    def _number(self, token: Token, negative: bool) -> int | float:
        number = float(token.text)
        if not math.isfinite(number):
            raise self._fault(token.position, "the number is too large for a float64")
        whole = token.text.isdigit() and abs(number) < 2**62
        value = int(token.text) if whole else number
        return -value if negative else value

    def _unquoted(self, token: Token) -> str:
        quote = token.text[0]
        value = token.text[1:-1].replace(quote * 2, quote)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise self._fault(token.position, "the text is not valid Unicode") from error
        return value

    def _column_of(self, operand: Column | Value, keyword: str) -> Column:
        if isinstance(operand, Value):
            raise self._fault(operand.token.position, f"`{keyword}` needs a column before it")
        return operand

    def _compare(self, left: Column | Value, sign: str, right: Column | Value) -> E:
        column, other = (left, right) if isinstance(left, Column) else (right, left)
        if isinstance(column, Value):
            raise self._fault(left.token.position, "one side of a comparison must be a column")
        self._check_kinds(column, other)
        return self.build.compare(column, sign if column is left else MIRRORED[sign], other)

    def _check_kinds(self, column: Column, other: Column | Value) -> None:
        name = column.token.text
        for side in (column, other):
            if isinstance(side, Column) and side.kind not in ("numbers", "text"):
                parts = " or one of its parts such as bbox.width" if side.token.text == "bbox" else ""
                raise self._fault(
                    side.token.position,
                    f"{side.token.text} is {side.type}, for `is null` only; name another column{parts}",
                )
        if column.kind != other.kind:
            found = f"{other.token.text} is {'text' if other.kind == 'text' else 'a number'}"
            if isinstance(other, Column):
                found = f"{other.token.text} holds {other.kind}"
            raise self._fault(other.token.position, f"{name} holds {column.kind} but {found}")

    def _is_in(self, column: Column) -> E:
        self._require("(")
        values = []
        while True:
            value = self._value()
            self._check_kinds(column, value)
            values.append(value.value)
            if not self._take(","):
                break
        self._require(")")
        return self.build.is_in(column, values)

    def _like(self, column: Column) -> E:
        token = self._here
        if token.kind != "text":
            raise self._expected("a quoted text")
        self.index += 1
        self._check_kinds(column, Value("", token))
        return self.build.like(column, self._pattern(token))

    def _pattern(self, token: Token) -> str:
        pattern = self._unquoted(token)
        if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
            raise self._fault(token.position, "the pattern ends in a lone \\, which escapes nothing")
        return pattern

    def _expected(self, what: str) -> InputError:
        token = self._here
        found = "the end" if token.kind == "end" else shorten(token.text)
        return self._fault(token.position, f"expected {what}, found {found}")

    def _fault(self, position: int, what: str) -> InputError:
        return fault(self.text, position, what)
