"""Text as XML 1.0 can hold it, which has no word for control characters."""

from __future__ import annotations

import re
from xml.sax.saxutils import quoteattr

from fastsam_batch.errors import InputError

# The complement of XML 1.0's Char (section 2.2); not even an escape may stand for one of them.
_NO_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def quoted(text: str, what: str, remedy: str) -> str:
    """The text as the value of an attribute, with its quotes.

    Raises InputError where XML has no such character, in a sentence that begins with `what` and ends in `remedy`.
    """
    if found := _NO_CHARACTER.search(text):
        raise InputError(f"{what} {text!r} holds the character {found[0]!r}, which XML cannot hold; {remedy}")
    return quoteattr(text)
