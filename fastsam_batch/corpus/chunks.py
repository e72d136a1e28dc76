"""A column chunk of a Parquet file as bytes: pages are unpacked as fast as the place they lie in allows."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from fastsam_batch import storage
from fastsam_batch.corpus.frames import ALONE, BLOCK, BLOCK_HEADER, LAST, LONGEST_HEAD, Frame, block_headers, frame_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_CODECS = {"ZSTD": "zstd", "SNAPPY": "snappy", "GZIP": "gzip", "BROTLI": "brotli", "LZ4": "lz4_raw"}
COMPRESSIONS = (*_CODECS, "UNCOMPRESSED")
_MOST_BLOCKS = 500  # each takes two of the places that one call can fill, of which there are 1024


class Chunk(Protocol):
    """Parts of a column chunk of `length` bytes."""

    length: int

    def read(self, begin: int, end: int) -> memoryview:
        """The bytes from one to another: fewer where the chunk ends before."""

    def page(self, begin: int, end: int, size: int) -> memoryview:
        """The bytes of a page, unpacked, which are `size`. Raises OSError or ArrowInvalid where it is broken."""


class Space:
    """Memory that one reader uses again and again, so that neither the system nor the cache has to find it anew."""

    def __init__(self) -> None:
        self._bytes, self._taken = bytearray(), 0

    def take(self, size: int) -> memoryview:
        """So many bytes, in which what was read before may stand."""
        if self._taken + size > len(self._bytes):
            self._bytes, self._taken = bytearray(max(size, 2 * len(self._bytes))), 0
        self._taken += size
        return memoryview(self._bytes)[self._taken - size : self._taken]

    def clear(self) -> None:
        """Let everything that was taken be taken again."""
        self._taken = 0


@contextmanager
def open_chunk(
    fs: AbstractFileSystem, path: str, start: int, length: int, compression: str, space: Space
) -> Iterator[Chunk]:
    """A chunk that begins at byte `start` of a file; its pages may take `space`.

    `compression` is one of COMPRESSIONS, as `ColumnChunkMetaData.compression` says it.
    """
    codec = pa.Codec(_CODECS[compression]) if compression in _CODECS else None
    if not storage.is_local(fs):
        yield BytesChunk(memoryview(fs.cat_file(path, start=start, end=start + length)), codec)
        return
    with open(path, "rb", buffering=0) as file:
        if codec is None:
            # A private copy on write, of which nothing is written: PyTorch takes no arrays that cannot be.
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
            yield BytesChunk(mapped[start : start + length], None)
        else:
            yield _FileChunk(file, start, length, codec, space)


class BytesChunk:
    """A chunk in memory."""

    def __init__(self, data: memoryview, codec: pa.Codec | None) -> None:
        self._data, self._codec, self.length = data, codec, len(data)

    def read(self, begin: int, end: int) -> memoryview:
        return self._data[begin:end]

    def page(self, begin: int, end: int, size: int) -> memoryview:
        return _unpacked(self.read(begin, end), size, self._codec) if self._codec else self.read(begin, end)


@dataclass
class _FileChunk:
    """A packed chunk of a local file."""

    file: IO[bytes]
    start: int
    length: int
    codec: Any
    space: Space

    def read(self, begin: int, end: int) -> memoryview:
        self.file.seek(self.start + begin)
        return memoryview(self.file.read(max(min(end, self.length) - begin, 0)))

    def page(self, begin: int, end: int, size: int) -> memoryview:
        if self.codec.name == "zstd" and hasattr(os, "preadv"):
            frame = frame_of(bytes(self.read(begin, min(begin + LONGEST_HEAD, end))), end - begin, size)
            if frame is not None and len(frame.sizes) <= _MOST_BLOCKS:
                kept = self._past_headers(frame, begin, end, size)
                if kept is not None:
                    return kept
        return _unpacked(self.read(begin, end), size, self.codec)

    def _past_headers(self, frame: Frame, begin: int, end: int, size: int) -> memoryview | None:
        """The content of a frame, read past the headers of the blocks that it keeps; None where it is another frame."""
        into = self.space.take(size)
        packed = memoryview(bytearray(len(ALONE) + frame.rest - frame.first))
        headers = memoryview(bytearray(BLOCK_HEADER * len(frame.sizes)))
        places = [packed[len(ALONE) :]]
        for number, held in enumerate(frame.sizes):
            places.append(headers[BLOCK_HEADER * number : BLOCK_HEADER * (number + 1)])
            places.append(into[BLOCK * (number + 1) : BLOCK * (number + 1) + held])
        found = os.preadv(self.file.fileno(), places, self.start + begin + frame.first)
        if found != end - begin - frame.first or headers != block_headers(frame.sizes):
            return None
        packed[: len(ALONE)] = ALONE
        packed[len(ALONE)] |= LAST
        into[:BLOCK] = _unpacked(packed, BLOCK, self.codec)
        return into


def _unpacked(packed: bytes | memoryview, size: int, codec: Any) -> memoryview:
    return memoryview(codec.decompress(packed, size)).cast("B")  # Arrow's buffers count their bytes from -128 on
