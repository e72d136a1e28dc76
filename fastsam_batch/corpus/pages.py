"""Embeddings straight from the pages of a Parquet column chunk.

Arrow rebuilds a list from its repetition levels value by value, which costs several times the bytes themselves.
In a column of lists that all have one length the levels only say which rows are null. Format: the Apache Parquet
specification, data pages of version 1, PLAIN encoding, RLE levels, Thrift compact protocol for page headers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.corpus.chunks import Chunk, Page

_DATA_PAGE, _PLAIN, _RLE = 0, 0, 3
_LEVEL_BITS = 2  # of a nullable list of nullable values: 0 is a null list, 3 a value
_VALUE, _NULL_LIST = 3, 0
_MOST_BYTES_A_SLOT = 8  # two of its value, the rest for levels, however badly they are packed
_LENGTH = 4  # bytes of the number that leads a run of levels
_MANY = 40  # lists one by one cost as much as so many times all of them
_LONGEST_HEADER = 1024  # bytes of a page's header, with statistics of two values


class UnknownPages(ValueError):
    """The chunk is laid out in a way that only a full reader knows."""


class HalfLists:
    """The lists of a column chunk of `rows` lists of `size` float16, without those that are null.

    Raises UnknownPages for another layout than this package and Arrow write, and for a broken chunk.
    """

    def __init__(self, chunk: Chunk, rows: int, size: int) -> None:
        self._chunk, self._size, self._width = chunk, size, size * np.dtype(np.float16).itemsize
        self._headers = _page_headers(chunk)
        self._rows = rows
        spare = rows * size - sum(header.slots for header in self._headers)  # a null list has one slot, another `size`
        if spare < 0 or (spare % (size - 1) if size > 1 else spare):
            raise UnknownPages("lists of several lengths")
        self._before = np.zeros(0, np.int64)  # for each null list how many others lie before it
        # Each page, where its values begin in it, and among the values of all pages.
        self._pages: list[Page] = []
        self._skipped: list[int] = []
        self._begins: list[int] = []

    def parts(self) -> Iterator[tuple[slice | NDArray[np.int64], NDArray[np.float16]]]:
        """Lists [n, size] with their places among all: each part is valid until the next one is asked for."""
        slots = done = 0
        rest = b""  # of a list that goes on in the next piece
        broken: dict[int, bytes] = {}
        for header in self._headers:
            page = self._chunk.page(header.start, header.end, header.bytes)
            pieces = page.pieces()
            try:
                nulls, skipped, values = _begun(header, pieces)
            except (IndexError, OverflowError) as error:
                raise UnknownPages("a broken page") from error
            self._pages.append(page)
            self._skipped.append(skipped)
            self._begins.append(done * self._width + len(rest))
            if len(nulls):
                others = slots + nulls - np.arange(len(self._before), len(self._before) + len(nulls))
                self._before = np.append(self._before, others // self._size)
            slots += header.slots
            for piece in chain([values], pieces):
                if rest:
                    missing = self._width - len(rest)
                    rest, piece = rest + bytes(piece[:missing]), piece[missing:]
                    if len(rest) < self._width:
                        continue
                    broken[done] = rest
                    done += 1
                whole = len(piece) // self._width
                if whole:
                    halfs = np.frombuffer(piece, np.float16, whole * self._size)
                    yield slice(done, done + whole), halfs.reshape(whole, self._size)
                    done += whole
                rest = bytes(piece[whole * self._width :])
        if rest or done + len(self._before) != self._rows:
            raise UnknownPages("lists of several lengths")
        if broken:
            halfs = np.frombuffer(bytearray().join(broken.values()), np.float16)
            yield np.array(list(broken)), halfs.reshape(len(broken), self._size)

    def rows(self) -> NDArray[np.int64]:
        """The rows of the lists, which ascend, once `parts` has come to its end."""
        order = np.arange(self._rows - len(self._before))
        return order + np.searchsorted(self._before, order, side="right") if len(self._before) else order

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float16]:
        """Lists [n, size] at some places, which ascend, once `parts` has come to its end."""
        if len(places) * _MANY > self._rows:
            try:
                return self._passing(places)
            except UnknownPages as error:
                raise OSError("the file has changed meanwhile") from error
        found = [self._values(place * self._width, (place + 1) * self._width) for place in places.tolist()]
        return np.frombuffer(b"".join(found), np.float16).reshape(len(found), self._size)

    def _passing(self, places: NDArray[np.int64]) -> NDArray[np.float16]:
        """As `take`, from all lists as they pass by once more."""
        found = np.empty((len(places), self._size), np.float16)
        for where, part in HalfLists(self._chunk, self._rows, self._size).parts():
            if isinstance(where, slice):
                first, last = np.searchsorted(places, (where.start, where.stop))
                found[first:last] = part[places[first:last] - where.start]
            else:
                _, of_found, of_part = np.intersect1d(places, where, assume_unique=True, return_indices=True)
                found[of_found] = part[of_part]
        return found

    def _values(self, begin: int, end: int) -> bytes:
        """Bytes of the values of all pages."""
        number = bisect_right(self._begins, begin) - 1
        before = self._begins[number] - self._skipped[number]
        found = self._pages[number].some(begin - before, end - before)
        if not found:
            raise OSError("the file has become shorter")
        return found if len(found) == end - begin else found + self._values(begin + len(found), end)


def _begun(header: _PageHeader, pieces: Iterator[memoryview]) -> tuple[NDArray[np.int64], int, memoryview]:
    """Which slots of a page stand for a null list, where its values begin, and their bytes in the pieces so far."""
    page = next(pieces)
    repetition = definition = 0
    while len(page) < (definition := _end_of_levels(page, repetition := _end_of_levels(page, 0))):
        more = next(pieces, None)
        if more is None:
            raise UnknownPages("levels that end early")
        page = memoryview(bytes(page) + more)
    count, odd = divmod(header.bytes - definition, np.dtype(np.float16).itemsize)
    if odd:
        raise UnknownPages("half a value")
    nulls = np.zeros(0, np.int64)
    if count != header.slots:
        nulls = _null_lists(page[repetition + _LENGTH : definition], header.slots, count)
    return nulls, definition, page[definition:]


@dataclass(frozen=True)
class _PageHeader:
    """A page's bytes in its chunk, how many they are when decompressed, and its levels."""

    start: int
    end: int
    bytes: int
    slots: int


def _page_headers(chunk: Chunk) -> list[_PageHeader]:
    headers: list[_PageHeader] = []
    position = 0
    while position < chunk.length:
        try:
            fields, end = _struct(chunk.read(position, min(position + _LONGEST_HEADER, chunk.length)), 0)
            page = fields[5]
            kinds = fields[1], page[2], page[3], page[4]
            start = position + end
            position = start + fields[3]
            headers.append(_PageHeader(start, position, fields[2], page[1]))
            odd_size = not 0 <= fields[2] <= _MOST_BYTES_A_SLOT * page[1] + 4096
        except (IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UnknownPages("a page header of another kind") from error
        if kinds != (_DATA_PAGE, _PLAIN, _RLE, _RLE):
            raise UnknownPages(f"page type, encodings {kinds}")
        if odd_size or not start <= position <= chunk.length:
            raise UnknownPages("a page of more bytes than its values or its chunk have")
    return headers


def _struct(data: memoryview, position: int) -> tuple[dict[int, Any], int]:
    """The fields of a Thrift struct in compact protocol that page headers use, and where it ends."""
    fields: dict[int, Any] = {}
    name = 0
    while kind := data[position]:
        delta, kind = kind >> 4, kind & 15
        position += 1
        if delta:
            name += delta
        else:
            value, position = _varint(data, position)
            name = value >> 1 ^ -(value & 1)
        if kind in (1, 2):
            fields[name] = kind == 1
        elif kind in (4, 5, 6):
            value, position = _varint(data, position)
            fields[name] = value >> 1 ^ -(value & 1)
        elif kind == 8:
            length, position = _varint(data, position)
            position += length
        elif kind == 12:
            fields[name], position = _struct(data, position)
        else:
            raise UnknownPages(f"a header field of type {kind}")
    return fields, position + 1


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position


def _end_of_levels(page: memoryview, start: int) -> int:
    """Where a run of levels ends, which is led by its length."""
    return start + _LENGTH + int.from_bytes(page[start : start + _LENGTH], "little")


def _null_lists(levels: memoryview, slots: int, values: int) -> NDArray[np.int64]:
    """Slots that stand for a null list, from definition levels in Parquet's RLE and bit-packed hybrid."""
    parts: list[NDArray[np.uint8]] = []
    position = found = 0
    while found < slots:
        header, position = _varint(levels, position)
        length = (header >> 1) * (8 if header & 1 else 1)
        if not 0 < length <= slots - found + 7:
            raise UnknownPages("levels of more values than the page has")
        if header & 1:
            if len(levels) - position < (header >> 1) * _LEVEL_BITS:
                raise UnknownPages("levels that end early")
            packed = np.frombuffer(levels, np.uint8, (header >> 1) * _LEVEL_BITS, position)
            bits = np.unpackbits(packed, bitorder="little").reshape(-1, _LEVEL_BITS)
            parts.append((bits[:, 0] | bits[:, 1] << 1).astype(np.uint8))
            position += len(packed)
        else:
            parts.append(np.full(length, levels[position], np.uint8))
            position += 1
        found += len(parts[-1])
    if not parts:
        raise UnknownPages("values without levels")
    level = np.concatenate(parts)[:slots]
    null = np.flatnonzero(level == _NULL_LIST)
    if np.count_nonzero(level == _VALUE) != values or len(null) + values != slots:
        raise UnknownPages("a list holds a null")
    return null
