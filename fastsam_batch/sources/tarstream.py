"""The images of a tar archive, read once from front to back, and what tells a broken archive."""

from __future__ import annotations

import lzma
import struct
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import IO

from fastsam_batch.sources.folder import is_image
from fastsam_batch.sources.names import storable

_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, LookupError, struct.error)
_PIECE_BYTES = 1024**2


class BrokenTarError(Exception):
    """The archive cannot be read to its end: damaged, cut short, or no archive."""


class _StrictTarInfo(tarfile.TarInfo):
    """Refuses headers that tarfile takes for the end: a damaged one, or none where the end mark should be."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictTarInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf and not any(buf):
                raise  # a block of zeros is the end mark
            raise tarfile.ReadError(f"{error} where a file's header or the end mark belongs") from error


class TarImage:
    """One image of the archive being read; `load` works until the next one is asked for."""

    def __init__(self, archive: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> None:
        self.name = name
        self.size = info.size
        self._archive = archive
        self._info = info

    def load(self) -> bytes:
        """Its bytes. Raises BrokenTarError where the archive ends within them."""
        return b"".join(self._pieces())

    def skip(self) -> None:
        """Pass over its bytes, so that an archive that ends within them is known as broken here."""
        for _ in self._pieces():
            pass

    def _pieces(self) -> Iterator[bytes]:
        try:
            member = self._archive.extractfile(self._info)
            while member and (piece := member.read(_PIECE_BYTES)):
                yield piece
        except _DAMAGE as error:
            raise BrokenTarError(f"{error} in {self.name}") from error


def stream_images(file: IO[bytes]) -> Iterator[TarImage]:
    """Images in the archive's order: regular files with an image suffix, hidden ones left out.

    `file` needs to be read forward only; compression is found by itself. Names lose a leading `./` or
    `/`; the second file of a name is called `name#2`, and so on. Raises BrokenTarError, or what reading
    `file` raises.
    """
    seen: Counter[str] = Counter()
    try:
        with tarfile.open(fileobj=file, mode="r|*", tarinfo=_StrictTarInfo) as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or every header of the archive stays in memory
                name = clean_name(info.name)
                if not info.isreg() or not is_image(name) or name.rpartition("/")[2].startswith("."):
                    continue
                seen[name] += 1
                yield TarImage(archive, info, name if seen[name] == 1 else f"{name}#{seen[name]}")
    except _DAMAGE as error:
        raise BrokenTarError(str(error)) from error


def clean_name(name: str) -> str:
    """A member's name as an id: no leading `./` or `/`. It is never used as a path."""
    while name.startswith(("./", "/")):
        name = name.removeprefix(".").lstrip("/")
    return storable(name)
