"""zstd frames of bytes that do not repeat, which need not be unpacked but only read past what lies between them.

zstd's negative levels keep such bytes, half floats of embeddings for one, as they are, in blocks. In a page only the
first block is packed: it begins with the levels of the lists. Format: RFC 8878, section 3.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

LONGEST_HEAD = 21  # bytes of the longest header of a frame and of that of its first block
BLOCK = 128 << 10  # bytes that each block but the last one holds
BLOCK_HEADER = 3

_MAGIC = b"\x28\xb5\x2f\xfd"
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)  # by the first two bits of a frame's descriptor
_SINGLE, _RESERVED, _CHECKSUM, _DICTIONARY = 0x20, 0x08, 0x04, 0x03  # the others
_RLE_TYPE, _RESERVED_TYPE = 1, 3
_CONTENT_SIZE_OF_FOUR = 0x80


@dataclass(frozen=True)
class Frame:
    """A frame of one block of BLOCK bytes, packed or not, and of others that are as they were, if it is as it seems.

    The first block lies from byte `first` to `rest`, header included, of the frame; the others hold `sizes` bytes.
    """

    first: int
    rest: int
    sizes: tuple[int, ...]


@lru_cache(64)
def block_headers(sizes: tuple[int, ...], last: bool) -> bytes:
    """The headers of blocks of so many bytes kept as they are, one after the other; `last` where they end a frame."""
    marks = [size << 3 for size in sizes[:-1]] + [sizes[-1] << 3 | last]
    return b"".join(mark.to_bytes(BLOCK_HEADER, "little") for mark in marks)


def frame_of(head: bytes, length: int, size: int) -> Frame | None:
    """A frame by its first LONGEST_HEAD bytes, all its bytes and those of its content; None for one of other form."""
    if len(head) < LONGEST_HEAD or not head.startswith(_MAGIC) or size <= BLOCK:
        return None
    descriptor = head[4]
    if descriptor & (_RESERVED | _CHECKSUM | _DICTIONARY):
        return None
    single = bool(descriptor & _SINGLE)
    first = 5 + (not single) + (_CONTENT_SIZE_BYTES[descriptor >> 6] or single)
    header = int.from_bytes(head[first : first + BLOCK_HEADER], "little")
    last, kind, packed = header & 1, header >> 1 & 3, header >> 3
    rest = first + BLOCK_HEADER + packed
    whole, left = divmod(size - BLOCK, BLOCK)
    sizes = (BLOCK,) * whole + (left,) * bool(left)
    if last or kind in (_RLE_TYPE, _RESERVED_TYPE) or rest + BLOCK_HEADER * len(sizes) + size - BLOCK != length:
        return None
    return Frame(first, rest, sizes)


# A frame of its own for a first block: its header says that it holds BLOCK bytes in one piece.
ALONE = _MAGIC + bytes([_CONTENT_SIZE_OF_FOUR | _SINGLE]) + BLOCK.to_bytes(4, "little")
LAST = 1  # in the first byte of a block's header
