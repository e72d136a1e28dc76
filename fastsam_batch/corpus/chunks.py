"""A column chunk of a Parquet file as bytes: pages are unpacked as fast as the place they lie in allows."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
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
# Blocks of a page that are read, and multiplied, at once: a quarter of a page of 16 MiB with its levels. With fewer,
# threads wait more often for Python's lock; with more, small caches do not hold what all threads have read.
_BLOCKS = 33
_MOST_UNPACKED = 64 << 20  # bytes of a chunk's pages that stay in memory: row groups of other writers may be large


class Page(Protocol):
    """A page of a column chunk, unpacked."""

    def pieces(self) -> Iterator[memoryview]:
        """Its bytes, each piece valid until the next one is asked for. Raises OSError or ArrowInvalid if broken."""

    def some(self, begin: int, end: int) -> bytes:
        """Its bytes from one to another, after `pieces` has come to its end: fewer where the page ends before."""


class Chunk(Protocol):
    """Parts of a column chunk of `length` bytes."""

    length: int

    def read(self, begin: int, end: int) -> memoryview:
        """The bytes from one to another: fewer where the chunk ends before."""

    def page(self, begin: int, end: int, size: int) -> Page:
        """The page between two bytes, which unpacked are `size`. Raises OSError or ArrowInvalid if broken."""


class Space:
    """Memory that one reader uses again and again, so that what it reads stays in the cores' cache."""

    def __init__(self) -> None:
        self.content = memoryview(bytearray(_BLOCKS * BLOCK))
        self.headers = memoryview(bytearray(_BLOCKS * BLOCK_HEADER))
        self._places: list[memoryview] = []
        for number in range(_BLOCKS):
            self._places.append(self.headers[number * BLOCK_HEADER : (number + 1) * BLOCK_HEADER])
            self._places.append(self.content[number * BLOCK : (number + 1) * BLOCK])

    def places(self, first: int, sizes: tuple[int, ...]) -> list[memoryview]:
        """Where blocks of so many bytes go, each after its header, from the block `first` on."""
        places = self._places[2 * first : 2 * (first + len(sizes))]
        places[-1] = places[-1][: sizes[-1]]
        return places


@contextmanager
def open_chunk(
    fs: AbstractFileSystem, path: str, start: int, length: int, compression: str, space: Space
) -> Iterator[Chunk]:
    """A chunk that begins at byte `start` of a file; pieces of its pages may lie in `space`.

    `compression` is one of COMPRESSIONS, as `ColumnChunkMetaData.compression` says it.
    """
    codec = pa.Codec(_CODECS[compression]) if compression in _CODECS else None
    if not storage.is_local(fs):
        yield BytesChunk(memoryview(storage.read_range(fs, path, start, length)), codec)
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
        self._data, self._codec, self.length, self._unpacked = data, codec, len(data), 0

    def read(self, begin: int, end: int) -> memoryview:
        return self._data[begin:end]

    def page(self, begin: int, end: int, size: int) -> Page:
        if self._codec is None:
            return _Whole(lambda: self.read(begin, end)[:size], keep=True)
        self._unpacked += size
        return _Whole(lambda: _unpacked(self.read(begin, end), size, self._codec), self._unpacked <= _MOST_UNPACKED)


@dataclass
class _FileChunk:
    """A packed chunk of a local file."""

    file: IO[bytes]
    start: int
    length: int
    codec: Any
    space: Space
    unpacked: int = 0

    def read(self, begin: int, end: int) -> memoryview:
        self.file.seek(self.start + begin)
        return memoryview(self.file.read(max(min(end, self.length) - begin, 0)))

    def page(self, begin: int, end: int, size: int) -> Page:
        if self.codec.name == "zstd" and size > BLOCK and hasattr(os, "preadv"):
            frame = frame_of(bytes(self.read(begin, min(begin + LONGEST_HEAD, end))), end - begin, size)
            if frame is not None:
                return _Kept(self, frame, begin, end, size)
        return self.whole(begin, end, size)

    def whole(self, begin: int, end: int, size: int) -> _Whole:
        self.unpacked += size
        return _Whole(lambda: _unpacked(self.read(begin, end), size, self.codec), self.unpacked <= _MOST_UNPACKED)


@dataclass
class _Whole:
    """A page in one piece, as `unpack` gives it; it stays in memory if it is to `keep`."""

    unpack: Callable[[], memoryview]
    keep: bool
    _kept: memoryview | None = None

    def pieces(self) -> Iterator[memoryview]:
        yield self._data()

    def some(self, begin: int, end: int) -> bytes:
        return bytes(self._data()[begin:end])

    def _data(self) -> memoryview:
        data = self.unpack() if self._kept is None else self._kept
        if self.keep:
            self._kept = data
        return data


@dataclass
class _Kept:
    """A page of a local file whose bytes lie there as they are but for the first block, between headers of blocks.

    Where they turn out not to, it is unpacked as another one from there on.
    """

    chunk: _FileChunk
    frame: Frame
    begin: int
    end: int
    size: int
    other: _Whole | None = None
    first: memoryview | None = None

    def pieces(self) -> Iterator[memoryview]:
        done = 0
        for piece in self._past_headers():
            yield piece
            done += len(piece)
        if done < self.size:
            self.other = self.chunk.whole(self.begin, self.end, self.size)
            for whole in self.other.pieces():
                yield whole[done:]

    def some(self, begin: int, end: int) -> bytes:
        if self.other:
            return self.other.some(begin, end)
        number = begin // BLOCK
        stop = min(end, (number + 1) * BLOCK, self.size)
        if number:
            place = self._place(number) + BLOCK_HEADER - number * BLOCK
            found = self.chunk.read(self.begin + place + begin, self.begin + place + stop).tobytes()
        else:
            self.first = self.first or self._first()
            found = self.first[begin:stop].tobytes()
        return found + self.some(stop, end) if stop < min(end, self.size) else found

    def _place(self, number: int) -> int:
        """Where a block begins that is not the first one."""
        return self.frame.rest + (number - 1) * (BLOCK + BLOCK_HEADER)

    def _first(self) -> memoryview:
        """The content of the first block."""
        packed = self.chunk.read(self.begin + self.frame.first, self.begin + self.frame.rest)
        if len(packed) < self.frame.rest - self.frame.first:
            raise OSError("the file has become shorter")
        alone = bytearray(ALONE + packed)
        alone[len(ALONE)] |= LAST
        return _unpacked(memoryview(alone), BLOCK, self.chunk.codec)

    def _past_headers(self) -> Iterator[memoryview]:
        """The content as far as it is laid out so."""
        sizes, space, file = self.frame.sizes, self.chunk.space, self.chunk.file.fileno()
        try:
            space.content[:BLOCK] = self._first()
        except (OSError, pa.ArrowInvalid):  # as if it were of BLOCK bytes
            return
        done = first = 1
        position = self.chunk.start + self.begin + self.frame.rest
        while done <= len(sizes):
            some = sizes[done - 1 : done - 1 + _BLOCKS - first]
            done += len(some)
            length = sum(some) + BLOCK_HEADER * len(some)
            headers = space.headers[BLOCK_HEADER * first : BLOCK_HEADER * (first + len(some))]
            if os.preadv(file, space.places(first, some), position) != length:
                return
            if headers != block_headers(some, done > len(sizes)):
                return
            yield space.content[: BLOCK * first + sum(some)]
            position, first = position + length, 0


def _unpacked(packed: bytes | memoryview, size: int, codec: Any) -> memoryview:
    return memoryview(codec.decompress(packed, size)).cast("B")  # Arrow's buffers count their bytes from -128 on
