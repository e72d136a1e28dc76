"""File names for images: readable, plain, and never the same for two."""

from __future__ import annotations

import hashlib
import re

_NOT_PLAIN = re.compile(r"[^\w.\-]+", re.ASCII)
_ENDING = re.compile(r"(?<=.)\.[A-Za-z0-9]{1,5}$")
_LONGEST = 120


class FileNames:
    """Gives each image_id a name without an ending, which is not given again.

    Slashes become `__`, other unusual characters `_`. A name that is taken, or too long, ends in the first
    digits of the SHA-256 of the image_id.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def stem_of(self, image_id: str) -> str:
        """The name for an image, its own ending dropped. Ask once for each image."""
        name = _NOT_PLAIN.sub("_", image_id.replace("/", "__"))
        stem = _ENDING.sub("", name)
        if stem.lower() in self._taken or len(stem) > _LONGEST:  # some file systems fold the case
            stem = f"{stem[:_LONGEST]}-{hashlib.sha256(image_id.encode()).hexdigest()[:12]}"
        self._taken.add(stem.lower())
        return stem
