"""Encoders for the zoo: one photograph in every form, and forms that no library writes, made by hand."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 96, 64
PHOTO = np.asarray(Image.fromarray(skimage.data.coffee()).resize((WIDTH, HEIGHT), Image.Resampling.BOX))
GREY = np.asarray(Image.fromarray(PHOTO).convert("L"))
WHITE = 255
_ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def pil(image_format: str, mode: str = "RGB", pixels: NDArray | Image.Image = PHOTO, **options) -> bytes:
    """The photograph through Pillow."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if image.mode != mode:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def alpha(mode: str = "RGBA") -> Image.Image:
    """The photograph with its right half clear: laid on white, half of it is white."""
    image = Image.fromarray(PHOTO).convert(mode)
    mask = Image.new("L", image.size, 0)
    mask.paste(255, (0, 0, WIDTH // 2, HEIGHT))
    image.putalpha(mask)
    return image


def frames(image_format: str, **options) -> bytes:
    """An animation or a document of pages whose first one is the photograph."""
    others = [Image.fromarray(255 - PHOTO), Image.new("RGB", (WIDTH, HEIGHT), "red")]
    return pil(image_format, save_all=True, append_images=others, **options)


def oriented(image_format: str, orientation: object, **options) -> bytes:
    """The raster that the EXIF orientation asks viewers to turn into the photograph."""
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    undo |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    image = Image.fromarray(PHOTO)
    if orientation in undo:
        image = image.transpose(Image.Transpose[undo[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    return pil(image_format, pixels=image, exif=exif, **options)


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    samples: NDArray[np.uint16] | NDArray[np.uint8],
    depth: int,
    colour_type: int,
    *,
    interlace: bool = False,
    before: bytes = b"",
    size: tuple[int, int] | None = None,
) -> bytes:
    """A PNG written by hand: samples [height, width, channels] below 2**depth, `before` in front of the pixels."""
    height, width = samples.shape[:2]
    passes = _ADAM7 if interlace else [(0, 0, 1, 1)]
    raw = b"".join(_lines(samples[y::dy, x::dx], depth) for x, y, dx, dy in passes)
    header = struct.pack(">IIBBBBB", *(size or (width, height)), depth, colour_type, 0, 0, int(interlace))
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _lines(samples: NDArray, depth: int) -> bytes:
    if samples.size == 0:
        return b""
    rows = samples.reshape(len(samples), -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8).reshape(len(rows), -1)
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=2)[..., 8 - depth :]
        packed = np.packbits(bits.reshape(len(rows), -1), axis=1)
    return np.pad(packed, ((0, 0), (1, 0))).tobytes()  # filter 0 before each line


def levels(depth: int) -> NDArray:
    """The grey photograph in `depth` bits, [height, width, 1]."""
    full = GREY.astype(np.uint16)
    return (full * 257 if depth == 16 else full >> (8 - depth))[..., None]


def grey_palette(depth: int) -> bytes:
    """A palette of 2**depth greys."""
    steps = np.linspace(0, 255, 2**depth).astype(np.uint8)
    return chunk(b"PLTE", np.repeat(steps, 3).tobytes())


def deep(channels: NDArray) -> NDArray:
    """Eight-bit samples as sixteen-bit ones."""
    return channels.astype(np.uint16) * 257


def tiff(pixels: NDArray, **options) -> bytes:
    """Through tifffile, which writes what Pillow does not: tiles, planes, BigTIFF, 16-bit colour, doubles."""
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, metadata=None, **options)
    return buffer.getvalue()


def sof(data: bytes, *, marker: int | None = None, precision: int | None = None, size: int | None = None) -> bytes:
    """A JPEG whose frame header says something else."""
    changed = bytearray(data)
    at = next(i for i in range(2, len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC1, 0xC2))
    if marker is not None:
        changed[at + 1] = marker
    if precision is not None:
        changed[at + 4] = precision
    if size is not None:
        changed[at + 5 : at + 9] = struct.pack(">HH", size, size)
    return bytes(changed)


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """The bytes with some of them replaced."""
    return data[:at] + new + data[at + len(new) :]


def claims(image_format: str, size: int = 60_000) -> bytes:
    """A file of a few hundred bytes whose header claims size x size pixels."""
    if image_format == "PNG":
        return png(PHOTO, 8, 2, size=(size, size))
    if image_format == "JPEG":
        return sof(pil("JPEG"), size=size)
    if image_format == "GIF":
        wide = struct.pack("<HH", size, size)
        data = patched(pil("GIF"), 6, wide)
        return patched(data, data.index(b"\x2c\0\0\0\0") + 5, wide)
    if image_format == "BMP":
        return patched(pil("BMP"), 18, struct.pack("<ii", size, size))
    if image_format == "PPM":
        return b"P6\n%d %d\n255\n" % (size, size) + PHOTO.tobytes()
    if image_format == "JPEG2000":
        data = pil("JPEG2000")
        header, codestream = data.index(b"ihdr") + 4, data.index(b"\xff\x4f\xff\x51") + 8
        return patched(
            patched(data, header, struct.pack(">II", size, size)), codestream, struct.pack(">II", size, size)
        )
    if image_format == "TIFF":
        data = pil("TIFF")
        for tag in (256, 257):
            entry = struct.pack("<HHI", tag, 4, 1)
            short = struct.pack("<HHI", tag, 3, 1)
            at = data.index(short) if short in data else data.index(entry)
            data = patched(data, at, entry + struct.pack("<I", size))
        return data
    if image_format == "WEBP":  # 14 bits a side: VP8X says 24
        data = pil("WEBP", pixels=alpha(), mode="RGBA")
        return patched(data, data.index(b"VP8X") + 12, struct.pack("<I", size - 1)[:3] * 2)
    raise ValueError(image_format)


def swollen_comment() -> bytes:
    """A PNG with a compressed comment that unpacks to far more than it may."""
    body = b"Comment\0\0" + zlib.compress(bytes(20_000_000))
    return png(PHOTO, 8, 2, before=chunk(b"zTXt", body))
