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
from contextlib import ExitStack, suppress
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
_MOST_ZEROS = 2**20  # behind an end mark: writers fill up a record, of 10 KiB as a rule


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

    `unread` says why it is not read where it is not: of a sparse one a few bytes may say that it unpacks to any size,
    and a link has no bytes of its own.
    """

    def __init__(self, archive: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> None:
        self.name = name
        self.size = info.size
        self.unread = _why_unread(info)
        self._archive = archive
        self._info = info

    def load(self) -> bytes:
        """Its bytes. Raises BrokenTarError where the archive ends within them, OSError for one that is not read."""
        if self.unread:
            raise OSError(f"{self.name} {self.unread}")
        return b"".join(self._pieces())

    def skip(self) -> None:
        """Pass over its bytes, so that an archive that ends within them is known as broken here."""
        if not self.unread:
            for _ in self._pieces():
                pass

    def _pieces(self) -> Iterator[bytes]:
        try:
            member = self._archive.extractfile(self._info)
            while member and (piece := member.read(_PIECE_BYTES)):
                yield piece
        except _DAMAGE as error:
            raise BrokenTarError(f"{error} in {self.name}") from error


def _why_unread(info: tarfile.TarInfo) -> str | None:
    if info.issparse():
        return "is a sparse member, which is not read: pack the shard without --sparse"
    if info.islnk() or info.issym():
        return (
            f"is a link to {storable(info.linkname)}, which is not followed: pack the shard with --dereference and "
            "--hard-dereference"
        )
    return None


def stream_images(file: IO[bytes] | io.RawIOBase) -> Iterator[TarImage]:
    """Images in the archive's order: files, and links to files, with an image suffix, hidden ones left out.

    Archives behind its end, as `cat` puts them, are read on.

    `file` needs to be read forward only; gzip is found by itself. Names lose a leading `./` or
    `/`; the second file of a name is called `name#2`, and so on. Raises BrokenTarError, or what reading
    `file` raises.
    """
    seen: Counter[str] = Counter()
    try:
        for archive, info in _members(file):
            name = clean_name(info.name)
            of_a_kind = info.isreg() or info.islnk() or info.issym()
            if not of_a_kind or not is_image(name) or name.rpartition("/")[2].startswith("."):
                continue
            seen[name] += 1
            yield TarImage(archive, info, name if seen[name] == 1 else f"{name}#{seen[name]}")
    except _DAMAGE as error:
        raise BrokenTarError(str(error)) from error


def _members(file: IO[bytes] | io.RawIOBase) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """What the archives hold that lie in a file one behind the other."""
    source, mode = _unzipped(file), "r|*"
    with ExitStack() as opened:
        while source is not None:
            archive = opened.enter_context(tarfile.open(fileobj=source, mode=mode, tarinfo=_StrictTarInfo))  # type: ignore[call-overload]
            while (info := archive.next()) is not None:
                archive.members.clear()  # or every header of the archive stays in memory
                if info.size < 0:
                    raise tarfile.ReadError("an extended header says a size below zero")
                yield archive, info
            source, mode = _behind(archive.fileobj), "r|"


def _behind(stream: Any) -> Any:
    """What follows an archive's end mark and the zeros behind it; None where nothing does, or nothing that is whole."""
    with suppress(*_DAMAGE):
        for _ in range(_MOST_ZEROS // tarfile.BLOCKSIZE):
            block = stream.read(tarfile.BLOCKSIZE)
            if any(block):
                return _Forward(block, stream)
            if not block:
                break
    return None


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
