"""File names for images: readable, plain, and never the same for two."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from itertools import chain

_NOT_PLAIN = re.compile(r"[^\w.\-]+", re.ASCII)
_ENDING = re.compile(r"(?<=.)\.[A-Za-z0-9]{1,5}$")
_HERE = re.compile(r"^(\./)+")
_HIDING = re.compile(r"^\.+")
_LONGEST = 120  # bytes: a file system takes 255, and an ending and a folder's mark come to it


class FileNames:
    """Gives each image_id a name without an ending, which is not given again.

    Slashes become `__`; letters and digits of every script stay, other characters become `_`, and so does a dot in
    front, which would hide the file. A name that is taken, or too long, ends in the first digits of the SHA-256 of the
    image_id, as many as make it another one.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def stem_of(self, image_id: str) -> str:
        """The name for an image, its own ending dropped. Ask once for each image."""
        flat = _HERE.sub("", image_id).replace("/", "__")
        name = unicodedata.normalize("NFC", flat)  # some file systems take no other form
        stem = _HIDING.sub("_", _ENDING.sub("", _NOT_PLAIN.sub(_plain, name)))
        readable = stem.encode()[:_LONGEST].decode(errors="ignore")
        digest = hashlib.sha256(image_id.encode()).hexdigest()
        longer = (f"{readable}-{digest[:digits]}" for digits in range(12, len(digest) + 1))
        names = longer if readable != stem else chain([stem], longer)
        stem = next(name for name in names if name.casefold() not in self._taken)  # some file systems fold the case
        self._taken.add(stem.casefold())
        return stem


def _plain(found: re.Match[str]) -> str:
    """Of characters beyond ASCII's letters and digits those that other scripts write, `_` for each run of others."""
    return re.sub(r"\0+", "_", "".join(each if _is_written(each) else "\0" for each in found[0]))


def _is_written(character: str) -> bool:
    return not character.isascii() and unicodedata.category(character)[0] in "LMN"
