"""Words of the filter language: a text cut into names, numbers, quoted texts and signs."""

from __future__ import annotations

import re
from typing import NamedTuple

from fastsam_batch.errors import InputError
from fastsam_batch.words import shown

KEYWORDS = frozenset(["and", "or", "not", "in", "between", "like", "is", "null"])

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
      | (?P<sign><=|>=|<>|!=|==|[=<>(),+-])""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """One word; `kind` is number, text (with its quotes), name, keyword (lower case), sign or end."""

    kind: str
    text: str
    position: int  # of its first character, from 1


def tokenize(text: str) -> list[Token]:
    """The tokens of `text`, an `end` behind them. Raises InputError at a character that starts none."""
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            found = shorten(text[position:])
            raise fault(text, position + 1, f"expected a name, a number or a quoted text, found {found}")
        kind, word = str(match.lastgroup), match.group()
        if kind == "name" and word.lower() in KEYWORDS:
            kind, word = "keyword", word.lower()
        if kind != "space":
            tokens.append(Token(kind, word, position + 1))
        position = match.end()
    return [*tokens, Token("end", "", len(text) + 1)]


def fault(text: str, position: int, what: str) -> InputError:
    """The error that says `what` is wrong with the filter `text` at a character, counted from 1."""
    return InputError(f"the filter {shorten(text)!r}, at character {position}: {what}")


def shorten(text: str) -> str:
    """At most 60 characters of `text`, on one line, fit for a message."""
    return shown(text if len(text) <= 60 else text[:57] + "...")
