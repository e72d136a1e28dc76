"""File names for images: readable, plain, and never the same for two."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_NOT_PLAIN = re.compile(r"[^\w.\-]+", re.ASCII)
_ENDING = re.compile(r"(?<=.)\.[A-Za-z0-9]{1,5}$")
_LONGEST = 120  # bytes: a file system takes 255, and an ending and a folder's mark come to it


class FileNames:
    """Gives each image_id a name without an ending, which is not given again.

    Slashes become `__`; letters and digits of every script stay, other characters become `_`. A name that is taken, or
    too long, ends in the first digits of the SHA-256 of the image_id.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def stem_of(self, image_id: str) -> str:
        """The name for an image, its own ending dropped. Ask once for each image."""
        name = unicodedata.normalize("NFC", image_id.replace("/", "__"))  # some file systems take no other form
        stem = _ENDING.sub("", _NOT_PLAIN.sub(_plain, name))
        encoded = stem.encode()
        if stem.casefold() in self._taken or len(encoded) > _LONGEST:  # some file systems fold the case
            kept = encoded[:_LONGEST].decode(errors="ignore")
            stem = f"{kept}-{hashlib.sha256(image_id.encode()).hexdigest()[:12]}"
        self._taken.add(stem.casefold())
        return stem


def _plain(found: re.Match[str]) -> str:
    """Of characters beyond ASCII's letters and digits those that other scripts write, `_` for each run of others."""
    return re.sub(r"\0+", "_", "".join(each if _is_written(each) else "\0" for each in found[0]))


def _is_written(character: str) -> bool:
    return not character.isascii() and unicodedata.category(character)[0] in "LMN"
