"""The images of a tar archive, read once from front to back, and what tells a broken archive."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO, Any

from fastsam_batch.sources.folder import is_image
from fastsam_batch.sources.names import storable

_DAMAGE = (
    *(tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError),
    *(ValueError, LookupError, struct.error),
)
_PIECE_BYTES = 1024**2
_GZIP_MARK = b"\x1f\x8b"
# Headers that carry a name or attributes for the next one: tarfile holds them whole.
_EXTENSIONS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")
_MAX_EXTENSION_BYTES = 1024**2
_EMPTY_READS = 8


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

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        """tarfile's own point to override: what follows a header is read here."""
        if self.size < 0:
            raise tarfile.ReadError("a header says a size below zero")
        if self.type in _EXTENSIONS and self.size > _MAX_EXTENSION_BYTES:
            raise tarfile.ReadError(f"a header for a long name claims {self.size} bytes")
        try:
            return super()._proc_member(archive)  # type: ignore[misc]
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} in an extended header") from error


class TarImage:
    """One image of the archive being read; `load` works until the next one is asked for.

    A `sparse` one is not read: a few bytes may say that it unpacks to any size.
    """

    def __init__(self, archive: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> None:
        self.name = name
        self.size = info.size
        self.sparse = info.issparse()
        self._archive = archive
        self._info = info

    def load(self) -> bytes:
        """Its bytes. Raises BrokenTarError where the archive ends within them, OSError for a sparse one."""
        if self.sparse:
            raise OSError(f"{self.name} is a sparse member, which is not read: pack it without --sparse")
        return b"".join(self._pieces())

    def skip(self) -> None:
        """Pass over its bytes, so that an archive that ends within them is known as broken here."""
        if not self.sparse:
            for _ in self._pieces():
                pass

    def _pieces(self) -> Iterator[bytes]:
        try:
            member = self._archive.extractfile(self._info)
            while member and (piece := member.read(_PIECE_BYTES)):
                yield piece
        except _DAMAGE as error:
            raise BrokenTarError(f"{error} in {self.name}") from error


def stream_images(file: IO[bytes] | io.RawIOBase) -> Iterator[TarImage]:
    """Images in the archive's order: regular files with an image suffix, hidden ones left out.

    `file` needs to be read forward only; compression is found by itself. Names lose a leading `./` or
    `/`; the second file of a name is called `name#2`, and so on. Raises BrokenTarError, or what reading
    `file` raises.
    """
    seen: Counter[str] = Counter()
    try:
        with tarfile.open(fileobj=_unzipped(file), mode="r|*", tarinfo=_StrictTarInfo) as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or every header of the archive stays in memory
                if info.size < 0:
                    raise tarfile.ReadError("an extended header says a size below zero")
                name = clean_name(info.name)
                if not info.isreg() or not is_image(name) or name.rpartition("/")[2].startswith("."):
                    continue
                seen[name] += 1
                yield TarImage(archive, info, name if seen[name] == 1 else f"{name}#{seen[name]}")
    except _DAMAGE as error:
        raise BrokenTarError(str(error)) from error


class _Forward(io.RawIOBase):
    """A file read forward, its first bytes given back; short reads are what they were."""

    def __init__(self, head: bytes, file: IO[bytes] | io.RawIOBase) -> None:
        self._head = head
        self._file = file

    def read(self, count: int = -1, /) -> bytes:
        head, self._head = self._head[:count], self._head[count:]
        return head or self._file.read(count)


class _Ending:
    """What tarfile reads from: raises EOFError where it goes on to read behind the end.

    tarfile passes over a member by reading as much as its header says: for ever, where that is a lie.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._empty = 0

    def read(self, count: int) -> bytes:
        piece = self._read(count)
        self._empty = 0 if piece else self._empty + 1
        if self._empty > _EMPTY_READS:
            raise EOFError("the archive ends within a member")
        return piece


def _unzipped(file: IO[bytes] | io.RawIOBase) -> Any:
    """The archive's own bytes; a gzip file may be of many pieces (pigz, bgzip, `cat`): tarfile reads only the first."""
    head = file.read(len(_GZIP_MARK)) or b""
    forward = _Forward(head, file)
    # read1: what is there, so that all that comes before a break is used.
    return _Ending(gzip.GzipFile(fileobj=forward, mode="rb").read1 if head == _GZIP_MARK else forward.read)


def clean_name(name: str) -> str:
    """A member's name as an id: no leading `./` or `/`. It is never used as a path."""
    while name.startswith(("./", "/")):
        name = name.removeprefix(".").lstrip("/")
    return storable(name)
