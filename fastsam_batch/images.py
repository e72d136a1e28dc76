"""Encoded bytes to RGB pixels, or an ImageError with a kind that can be counted."""

from __future__ import annotations

import io
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 100_000_000

# Formats a corpus of photographs holds. Others that Pillow knows (EPS, PDF, icons, scientific stubs) are
# left out on purpose: some start an interpreter, none is a photograph.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "PPM", "AVIF")
_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
}
IMAGE_SUFFIXES: frozenset[str] = frozenset(_SUFFIXES & Image.registered_extensions().keys())
"""Lower-case suffixes, with their dot, of the image files that the installed Pillow reads."""

FOREIGN_SUFFIXES: frozenset[str] = frozenset({".heic", ".heif", ".jxl"})
"""Those of photographs that are not read here: a corpus tells them as `unsupported`."""

_FOREIGN = {
    b"ftypheic": "HEIC",
    b"ftypheix": "HEIC",
    **dict.fromkeys([b"ftyphevc", b"ftyphevx", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1"], "HEIF"),
    b"8BPS": "Photoshop",
    b"\xff\x0a": "JPEG XL",
    b"JXL ": "JPEG XL",
    b"%PDF": "PDF",
}
_STRIP_PIXELS = 1_000_000
_CUT_MESSAGES = ("truncat", "eof", "end of", "not enough", "incomplete", "unpack", "premature")
_UNSUPPORTED_MESSAGES = ("unsupported", "conversion", "unknown pixel mode", "not supported", "cannot handle")
# Frame headers of JPEG (ITU-T T.81, table B.1): lossless and hierarchical ones, and those coded arithmetically.
_UNREAD_JPEG = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_ARITHMETIC_JPEG = {0xC9, 0xCA}
_JPEG_PIXELS_A_BYTE = 512  # 64 pixels a block, and no block takes less than one bit of Huffman code
_BROKEN_EXIF = (OSError, ValueError, SyntaxError, LookupError, TypeError, EOFError, struct.error)
_pillow_limit_lock = threading.Lock()


class ImageError(Exception):
    """Bytes that give no image. `kind` is one of the names below, `message` a sentence.

    `empty`: no bytes. `not_an_image`: no known signature. `unsupported`: an image of a format or colour
    space that is not read here. `truncated`: cut short. `corrupt`: whole by its length, but wrong inside.
    `too_large`: more pixels than allowed, or than memory holds.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)  # both in args, so that the error can be pickled
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of an encoded image: (height, width, 3) uint8 RGB, upright by its EXIF orientation.

    Embedded colour profiles are not applied, as in OpenCV. Transparency is laid on white, greyscale is
    repeated over the channels, 16-bit samples keep their upper byte, animations give their first frame.
    Raises ImageError, and nothing else, where the bytes give no image; the pixel count is taken from the
    header, before anything is decoded. Safe to call from many threads.
    """
    if not data:
        raise ImageError("empty", "the file holds no bytes")
    try:
        return _decode(data, max_pixels)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("too_large", "the image does not fit into memory") from error
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", _sentence(error)) from error
    except Exception as error:  # Pillow lets through whatever its parsers raise
        raise ImageError(_kind_of_failure(error, data), _sentence(error)) from error


def image_format(data: bytes) -> str | None:
    """Pillow's name of the format of an encoded image of any size. Raises ImageError for a header that is none."""
    try:
        with _pillow_limit_lifted(sys.maxsize), _open(data) as image:
            return image.format
    except ImageError:
        raise
    except Exception as error:  # as in decode_image
        raise ImageError(_kind_of_failure(error, data), _sentence(error)) from error


def _decode(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    with _pillow_limit_lifted(max_pixels):
        image = _open(data)
    with image:
        width, height = image.size
        pixels = width * height
        if pixels > max_pixels:
            raise ImageError("too_large", f"{width}x{height} pixels are more than the {max_pixels} allowed")
        if image.format == "TIFF" and _strips_are_cut(image, len(data)):
            raise ImageError("truncated", "the file ends before the last strip of its pixels")
        if image.format in ("JPEG", "MPO") and _is_too_short(data, pixels):
            raise ImageError("truncated", f"{len(data)} bytes cannot hold {width}x{height} pixels of JPEG")
        if image.format == "TIFF":
            image.info.pop("xmp", None)  # Pillow turns a TIFF while it loads it, by this where it has no EXIF's
        with _pillow_limit_lifted(max_pixels if _over_pillow_limit(pixels) else 0):
            image.load()
        return _upright(image, _to_rgb(image))


def _open(data: bytes) -> Image.Image:
    """The image with its header read. Unlike Image.open, keeps the reason why a header is refused."""
    openers = _openers()
    prefix = data[:16]
    refusal: Exception | None = None
    for name, (factory, accept) in openers.items():
        accepted = accept(prefix) if accept else True
        if isinstance(accepted, str):  # Pillow's way to say that it was built without this codec
            raise ImageError("unsupported", accepted)
        if not accepted:
            continue
        try:
            opened: Image.Image = factory(io.BytesIO(data), "")
            return opened
        except (SyntaxError, IndexError, TypeError, ValueError) as error:
            refusal = refusal or type(error)(f"not a readable {name} header: {error}")
    for signature, name in _FOREIGN.items():
        if signature in data[:12]:
            raise ImageError("unsupported", f"{name} files are not read")
    if refusal is not None:
        raise refusal
    raise ImageError("not_an_image", "the bytes start with no known image signature")


@cache
def _openers() -> dict[str, tuple[Any, Any]]:
    Image.init()
    return {name: Image.OPEN[name] for name in _FORMATS if name in Image.OPEN}


def _over_pillow_limit(pixels: int) -> bool:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None:  # for good, or lifted by another thread, which will put it back
        with _pillow_limit_lock:
            limit = Image.MAX_IMAGE_PIXELS
    return limit is not None and pixels > limit


@contextmanager
def _pillow_limit_lifted(max_pixels: int) -> Iterator[None]:
    """Keeps Pillow's process-wide limit from warning or raising below ours.

    Some plugins check it while they open or load. It is a global that other code relies on, so it is
    changed only where ours is larger, for one image at a time, and put back.
    """
    if not _over_pillow_limit(max_pixels):
        yield
        return
    with _pillow_limit_lock:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image of any mode as RGB."""
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image) >> 8)
    if image.mode == "I":
        # PPM's samples are scaled to 16 bits by Pillow; elsewhere the depth shows in the values only.
        samples = np.clip(np.asarray(image), 0, None)
        peak = 65535 if image.format == "PPM" else int(samples.max())
        return _grey(samples >> (0 if peak <= 255 else 8 if peak <= 65535 else 23))
    if image.mode == "F":
        return _grey(_stretch(np.asarray(image)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(samples: NDArray[Any]) -> Image.Image:
    return Image.fromarray(samples.astype(np.uint8)).convert("RGB")


def _stretch(samples: NDArray[Any]) -> NDArray[Any]:
    """Float samples on 0..255: from [0, 1] by scaling, from [0, 255] as they are, others by their range."""
    finite = np.nan_to_num(samples.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high <= 1:
        return finite * 255
    if low >= 0 and high <= 255:
        return finite
    return (finite - low) * (255 / (high - low)) if high > low else np.zeros_like(finite)


def _upright(image: Image.Image, rgb: Image.Image) -> NDArray[np.uint8]:
    """Pixels of `rgb`, turned by the orientation that `image` carries; a broken EXIF block turns nothing."""
    try:
        orientation = _orientation(image)
    except _BROKEN_EXIF:  # the pixels are whole: an unreadable note beside them must not lose the image
        orientation = 1
    transpose = _TRANSPOSES.get(orientation)
    return _pixels(rgb if transpose is None else rgb.transpose(transpose))


def _orientation(image: Image.Image) -> int:
    """What the EXIF block says. The image's own `getexif` goes by XMP where that says nothing, as no other reader."""
    alone = Image.new("1", (1, 1))
    alone.info = {name: image.info[name] for name in ("exif", "Raw profile type exif") if name in image.info}
    orientation: int = alone.getexif().get(0x0112, 1)
    return orientation


def _pixels(rgb: Image.Image) -> NDArray[np.uint8]:
    """A writable array of an RGB image, copied in strips: one copy of 60 MB takes five times as long."""
    width, height = rgb.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        return np.array(rgb)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        pixels[top : top + rows] = np.asarray(rgb.crop((0, top, width, min(top + rows, height))))
    return pixels


_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _kind_of_failure(error: Exception, data: bytes) -> str:
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


def _is_too_short(data: bytes, pixels: int) -> bool:
    """True where a JPEG's bytes are fewer than any coding of its pixels takes; libjpeg would fill in grey."""
    return len(data) * _JPEG_PIXELS_A_BYTE < pixels and _jpeg_process(data) not in _ARITHMETIC_JPEG


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


def _strips_are_cut(image: Image.Image, length: int) -> bool:
    """True where a TIFF's strips or tiles reach past the end; libtiff fills in what is missing silently."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    offsets, counts = (tags.get(273) or tags.get(324), tags.get(279) or tags.get(325))
    if not offsets or not counts:
        return False
    return any(start + size > length for start, size in zip(offsets, counts, strict=False))


def _boxes_are_cut(data: bytes) -> bool:
    """True where a top-level box of an ISO file (AVIF, JPEG 2000) reaches past the end."""
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if length < 8:  # 0: to the end of the file; 1: a 64-bit length, which no photograph needs
            return data[position + 4 : position + 8] == b"jp2c" and not data.endswith(b"\xff\xd9")
        position += length
    return position != len(data)


def _sentence(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "the bytes are not an image that can be identified"
    return str(error) or type(error).__name__
