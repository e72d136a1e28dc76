"""Embeddings straight from the pages of a Parquet column chunk.

Arrow rebuilds a list from its repetition levels value by value, which costs several times the bytes themselves.
In a column of lists that all have one length the levels only say which rows are null. Format: the Apache Parquet
specification, data pages of version 1, PLAIN encoding, RLE levels, Thrift compact protocol for page headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.corpus.chunks import Chunk

_DATA_PAGE, _PLAIN, _RLE = 0, 0, 3
_LEVEL_BITS = 2  # of a nullable list of nullable values: 0 is a null list, 3 a value
_VALUE, _NULL_LIST = 3, 0
_MOST_BYTES_A_SLOT = 8  # two of its value, the rest for levels, however badly they are packed
_LONGEST_HEADER = 1024  # bytes of a page's header, with statistics of two values


class UnknownPages(ValueError):
    """The chunk is laid out in a way that only a full reader knows."""


def half_lists(chunk: Chunk, rows: int, size: int) -> Iterator[tuple[list[NDArray[np.float16]], NDArray[np.int64]]]:
    """The lists of a column chunk of `rows` lists of `size` float16, page by page, without those that are null.

    Gives the lists' values [n, size] in one or two parts and their rows int64 [n], which ascend. Values are views
    of what the chunk gives for a page. Raises UnknownPages for another layout than this package and Arrow
    write, and for a broken chunk, before the first list wherever the headers tell.
    """
    headers = _page_headers(chunk)
    spare = rows * size - sum(header.slots for header in headers)  # a null list has one slot, another `size`
    if spare < 0 or (spare % (size - 1) if size > 1 else spare):
        raise UnknownPages("lists of several lengths")
    slots = done = 0
    before = np.zeros(0, np.int64)  # for each null list how many others lie before it
    rest = np.zeros(0, np.float16)  # of a list that goes on in the next page
    for header in headers:
        try:
            values, nulls = _page(chunk, header)
        except (IndexError, OverflowError) as error:
            raise UnknownPages("a broken page") from error
        if len(nulls):
            others = slots + nulls - np.arange(len(before), len(before) + len(nulls))
            before = np.append(before, others // size)
        slots += header.slots
        lists, rest = _lists(rest, values, size)
        order = np.arange(done, done + sum(map(len, lists)))
        done += len(order)
        yield lists, order + np.searchsorted(before, order, side="right")
    if len(rest) or done + len(before) != rows:
        raise UnknownPages("lists of several lengths")


def _page(chunk: Chunk, header: _PageHeader) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """The values of a page, and which of its slots stand for a null list."""
    if header.bytes > _MOST_BYTES_A_SLOT * header.slots + 4096:
        raise UnknownPages("a page of more bytes than its values have")
    _, page = _level_bytes(chunk.page(header.start, header.end, header.bytes))  # repetition levels
    levels, page = _level_bytes(page)
    values = np.frombuffer(page, np.float16, len(page) // 2)
    if len(values) == header.slots:
        return values, np.zeros(0, np.int64)
    return values, _null_lists(levels, header.slots, len(values))


def _lists(
    rest: NDArray[np.float16], values: NDArray[np.float16], size: int
) -> tuple[list[NDArray[np.float16]], NDArray[np.float16]]:
    """Values as lists [n, size], in parts, the first begun by `rest`, and the values of the list that goes on."""
    lists = []
    if len(rest):
        missing = size - len(rest)
        rest, values = np.concatenate([rest, values[:missing]]), values[missing:]
        if len(rest) < size:
            return [], rest
        lists.append(rest[None])
    whole = len(values) // size * size
    if whole:
        lists.append(values[:whole].reshape(-1, size))
    return lists, values[whole:].copy()  # a copy, so that the page can go


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
        except (IndexError, KeyError, TypeError, OverflowError) as error:
            raise UnknownPages("a page header of another kind") from error
        if kinds != (_DATA_PAGE, _PLAIN, _RLE, _RLE):
            raise UnknownPages(f"page type, encodings {kinds}")
        if not start <= position <= chunk.length:
            raise UnknownPages("a page is longer than its chunk")
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


def _level_bytes(page: memoryview) -> tuple[memoryview, memoryview]:
    """A run of levels, led by its length, and what follows."""
    end = 4 + int.from_bytes(page[:4], "little")
    return page[4:end], page[end:]


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


def to_float32(halfs: NDArray[np.float16], out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Float16 [n, D] as float32, exactly, into `out` [n, D]; a third of the time of NumPy's own conversion.

    Moved to their places in a float32, sign, exponent and fraction stand for the value times 2**-112.
    """
    bits = out.view(np.int32)
    np.left_shift(halfs.view(np.int16), 13, out=bits, dtype=np.int32, casting="unsafe")
    np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
    np.multiply(out, np.float32(2.0**112), out=out)
    # Infinities and NaN come out as 2**16 and more, which no finite float16 is.
    if out.size and (out.max() >= 65536 or out.min() <= -65536):
        np.copyto(out, halfs)
    return out
