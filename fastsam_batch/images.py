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

from fastsam_batch.damage import is_too_short, kind_of_failure, strips_are_cut

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
        raise ImageError(kind_of_failure(error, data), _sentence(error)) from error


def image_format(data: bytes) -> str | None:
    """Pillow's name of the format of an encoded image of any size. Raises ImageError for a header that is none."""
    try:
        with _pillow_limit_lifted(sys.maxsize), _open(data) as image:
            return image.format
    except ImageError:
        raise
    except Exception as error:  # as in decode_image
        raise ImageError(kind_of_failure(error, data), _sentence(error)) from error


def _decode(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    with _pillow_limit_lifted(max_pixels):
        image = _open(data)
    with image:
        width, height = image.size
        pixels = width * height
        if pixels > max_pixels:
            raise ImageError("too_large", f"{width}x{height} pixels are more than the {max_pixels} allowed")
        if image.format == "TIFF" and strips_are_cut(image, len(data)):
            raise ImageError("truncated", "the file ends before the last strip of its pixels")
        if image.format in ("JPEG", "MPO") and is_too_short(data, pixels):
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


def _sentence(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "the bytes are not an image that can be identified"
    return str(error) or type(error).__name__
