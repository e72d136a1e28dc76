"""What is wrong with the bytes of an image that does not decode, told by the marks of its format."""

from __future__ import annotations

from typing import Any

from PIL import Image

_CUT_MESSAGES = ("truncat", "eof", "end of", "not enough", "incomplete", "unpack", "premature")
_UNSUPPORTED_MESSAGES = ("unsupported", "conversion", "unknown pixel mode", "not supported", "cannot handle")
# Frame headers of JPEG (ITU-T T.81, table B.1): lossless and hierarchical ones, and those coded arithmetically.
_UNREAD_JPEG = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_ARITHMETIC_JPEG = {0xC9, 0xCA}
_JPEG_PIXELS_A_BYTE = 512  # 64 pixels a block, and no block takes less than one bit of Huffman code


def kind_of_failure(error: Exception, data: bytes) -> str:
    """The kind of `images.ImageError` for what a decoder raised at these bytes."""
    message = str(error).lower()
    if "too large" in message:  # Pillow's guards on compressed text and profile chunks
        return "too_large"
    if _jpeg_process(data) in _UNREAD_JPEG:
        return "unsupported"
    if _is_cut(data) or isinstance(error, EOFError) or any(word in message for word in _CUT_MESSAGES):
        return "truncated"
    unwritten = isinstance(error, (NotImplementedError, KeyError))
    if unwritten or any(word in message for word in _UNSUPPORTED_MESSAGES):
        return "unsupported"
    return "corrupt"


def is_too_short(data: bytes, pixels: int) -> bool:
    """True where a JPEG's bytes are fewer than any coding of its pixels takes; libjpeg would fill in grey."""
    return len(data) * _JPEG_PIXELS_A_BYTE < pixels and _jpeg_process(data) not in _ARITHMETIC_JPEG


def strips_are_cut(image: Image.Image, length: int) -> bool:
    """True where a TIFF's strips or tiles reach past the end; libtiff fills in what is missing silently."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    offsets, counts = (tags.get(273) or tags.get(324), tags.get(279) or tags.get(325))
    if not offsets or not counts:
        return False
    return any(start + size > length for start, size in zip(offsets, counts, strict=False))


def _is_cut(data: bytes) -> bool:
    """True where a format that marks its end, or tells its length, lacks it."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data[-64:]
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"RIFF"):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data.startswith(b"GIF8"):
        return not data.rstrip(b"\0").endswith(b";")
    if data.startswith(b"BM"):
        return len(data) < int.from_bytes(data[2:6], "little")
    if data[4:8] in (b"ftyp", b"jP  "):
        return _boxes_are_cut(data)
    return False


def _jpeg_process(data: bytes) -> int:
    """The marker of a JPEG's first frame header, which tells how it is coded; 0 where there is none."""
    position = 2 if data.startswith(b"\xff\xd8") else len(data)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # those are no frame headers
            return marker
        fill = marker == 0xFF  # any number of them may stand before a marker
        position += 1 if fill else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0


def _boxes_are_cut(data: bytes) -> bool:
    """True where a top-level box of an ISO file (AVIF, JPEG 2000) reaches past the end."""
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length < 8:  # 0: to the end of the file; 1: a 64-bit length, which no photograph needs
            return data[position + 4 : position + 8] == b"jp2c" and not data.endswith(b"\xff\xd9")
        position += length
    return position != len(data)
