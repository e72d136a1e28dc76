"""The zoo's images: every format, mode, depth, orientation, cut, bomb and name, and what becomes of each."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
from PIL import Image
from zoo import encode as e
from zoo.encode import GREY, PHOTO, alpha, frames, oriented, pil, png, tiff
from zoo.outcome import (
    BOMB,
    CUT,
    DAMAGED,
    DITHERED,
    EMPTY,
    EXACT,
    GREY_ON_WHITE,
    IN_GREY,
    NEAR,
    NO_IMAGE,
    ON_WHITE,
    ROUGH,
    UNREAD,
    Case,
    Left,
    Whole,
    flat,
    steps,
)

JPEG, PNG = pil("JPEG"), pil("PNG")
RGBA = np.asarray(alpha())
GREY_ALPHA = np.dstack([GREY, RGBA[..., 3]])
RED = Image.new("RGB", (1, 1), "red")
LOSSLESS: dict[str, Any] = {"lossless": True}

FORMATS = [
    Case("jpeg.jpg", JPEG, NEAR),
    Case("jpeg progressive.jpg", pil("JPEG", progressive=True), NEAR),
    Case("jpeg 444.jpeg", pil("JPEG", quality=95, subsampling=0), NEAR),
    Case("jpeg 422.jpe", pil("JPEG", subsampling="4:2:2"), NEAR),
    Case("jpeg restarts.jfif", pil("JPEG", restart_marker_rows=1), NEAR),
    Case("jpeg quality 1.jpg", pil("JPEG", quality=1), ROUGH),
    Case("jpeg grey.jpg", pil("JPEG", "L"), IN_GREY),
    Case("jpeg cmyk.jpg", pil("JPEG", "CMYK"), NEAR),
    Case("jpeg of many pictures.jpg", frames("MPO"), NEAR),
    Case("jpeg with a tail.jpg", JPEG + b"tail" * 100, NEAR),
    Case("jpeg 12 bit.jpg", e.sof(JPEG, precision=12), UNREAD),
    Case("jpeg lossless.jpg", e.sof(JPEG, marker=0xC3), UNREAD),
    Case("jpeg hierarchical.jpg", e.sof(JPEG, marker=0xC5), UNREAD),
    *(Case(f"png grey {depth}.png", png(e.levels(depth), depth, 0), steps(depth)) for depth in (1, 2, 4, 8)),
    Case("png grey 16.png", png(e.levels(16), 16, 0), IN_GREY),
    *(
        Case(f"png palette {depth}.png", png(e.levels(depth), depth, 3, before=e.grey_palette(depth)), steps(depth))
        for depth in (1, 2, 4, 8)
    ),
    Case("png rgb 8.png", PNG, EXACT),
    Case("png rgb 16.png", png(e.deep(PHOTO), 16, 2), EXACT),
    Case("png alpha 8.png", png(RGBA, 8, 6), ON_WHITE),
    Case("png alpha 16.png", png(e.deep(RGBA), 16, 6), ON_WHITE),
    Case("png grey alpha 8.png", png(GREY_ALPHA, 8, 4), GREY_ON_WHITE),
    Case("png grey alpha 16.png", png(e.deep(GREY_ALPHA), 16, 4), GREY_ON_WHITE),
    Case("png interlaced.png", png(PHOTO, 8, 2, interlace=True), EXACT),
    Case("png interlaced 1 bit.png", png(e.levels(1), 1, 0, interlace=True), steps(1)),
    Case("png interlaced alpha 16.png", png(e.deep(RGBA), 16, 6, interlace=True), ON_WHITE),
    Case("png animated.png", frames("PNG"), EXACT),
    Case("png with a tail.png", PNG + b"tail" * 100, EXACT),
    Case("gif.gif", pil("GIF"), NEAR),
    Case("gif animated.gif", frames("GIF"), NEAR),
    Case("gif clear.gif", pil("GIF", "RGBA", alpha()), Whole(ON_WHITE.pixels, 8)),
    Case("webp.webp", pil("WEBP"), NEAR),
    Case("webp lossless.webp", pil("WEBP", **LOSSLESS), EXACT),
    Case("webp alpha.webp", pil("WEBP", "RGBA", alpha()), Whole(ON_WHITE.pixels, 8)),
    Case("webp animated.webp", frames("WEBP"), NEAR),
    Case("bmp.bmp", pil("BMP"), EXACT),
    Case("bmp 1 bit.bmp", pil("BMP", "1"), DITHERED),
    Case("bmp palette.bmp", pil("BMP", "P"), ROUGH),
    Case("bmp top down.bmp", e.patched(pil("BMP"), 22, (-64).to_bytes(4, "little", signed=True)), Whole(PHOTO[::-1])),
    Case("ppm.ppm", pil("PPM"), EXACT),
    Case("ppm plain.ppm", b"P3 96 64 255\n" + " ".join(map(str, PHOTO.ravel())).encode(), EXACT),
    Case("pgm 16.pgm", b"P5 96 64 65535\n" + e.levels(16).astype(">u2").tobytes(), IN_GREY),
    Case("pbm.pbm", pil("PPM", "1"), DITHERED),
    Case("jpeg 2000.jp2", pil("JPEG2000"), EXACT),
    Case("jpeg 2000 stream.j2k", pil("JPEG2000", no_jp2=True), EXACT),
    Case("jpeg 2000 16 bit.jp2", pil("JPEG2000", "I;16", Image.fromarray(e.levels(16)[..., 0])), IN_GREY),
    Case("jpeg 2000 alpha.jp2", pil("JPEG2000", "RGBA", alpha()), ON_WHITE),
    Case("avif.avif", pil("AVIF"), NEAR),
    Case("avif alpha.avif", pil("AVIF", "RGBA", alpha()), Whole(ON_WHITE.pixels, 8)),
    Case("avif animated.avif", frames("AVIF"), NEAR),
    *(
        Case(f"tiff {name}.tif", pil("TIFF", compression=name), EXACT)
        for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd")
    ),
    Case("tiff jpeg.tif", pil("TIFF", compression="jpeg"), NEAR),
    Case("tiff fax.tif", pil("TIFF", "1", compression="group4"), DITHERED),
    Case("tiff pages.tiff", frames("TIFF"), EXACT),
    Case("tiff tiled.tif", tiff(PHOTO, tile=(32, 32)), EXACT),
    Case("tiff planes.tif", tiff(np.moveaxis(PHOTO, 2, 0).copy(), planarconfig="separate", photometric="rgb"), EXACT),
    Case("tiff big.tif", tiff(PHOTO, bigtiff=True), EXACT),
    Case("tiff big-endian.tif", tiff(PHOTO, byteorder=">"), EXACT),
    Case("tiff predictor.tif", tiff(PHOTO, compression="zlib", predictor=True), EXACT),
    Case("tiff cmyk.tif", pil("TIFF", "CMYK"), NEAR),
    Case("tiff lab.tif", pil("TIFF", "LAB"), NEAR),
    Case("tiff palette.tif", pil("TIFF", "P"), ROUGH),
    Case("tiff white is zero.tif", tiff(255 - GREY, photometric="miniswhite"), IN_GREY),
    Case("tiff rgb 16.tif", tiff(e.deep(PHOTO), photometric="rgb"), EXACT),
    *(Case(f"tiff grey {kind}.tif", tiff(GREY.astype(kind)), IN_GREY) for kind in ("uint32", "int32", "float32")),
    Case("tiff grey uint16.tif", tiff(e.deep(GREY)), IN_GREY),
    Case("tiff grey unit float.tif", tiff((GREY / 255).astype(np.float32)), IN_GREY),
    *(
        Case(f"tiff rgb {kind}.tif", tiff(PHOTO.astype(kind), photometric="rgb"), UNREAD)
        for kind in ("float32", "float64", "uint32")
    ),
    Case("tiff five channels.tif", tiff(np.dstack([PHOTO, GREY, GREY]), planarconfig="contig"), UNREAD),
]

ORIENTATIONS = [
    *(Case(f"turned {value}.jpg", oriented("JPEG", value), NEAR) for value in range(10)),
    *(Case(f"turned 6.{name.lower()}", oriented(name, 6), NEAR) for name in ("PNG", "WEBP", "TIFF", "AVIF")),
    Case("turned by nonsense.jpg", pil("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense"), NEAR),
]

_CUT = {"jpg": JPEG, "png": PNG, "webp": pil("WEBP"), "gif": pil("GIF"), "bmp": pil("BMP"), "ppm": pil("PPM")}
_CUT |= {"tif": pil("TIFF"), "jp2": pil("JPEG2000"), "avif": pil("AVIF")}
_CUT |= {"progressive.jpg": pil("JPEG", progressive=True), "interlaced.png": png(PHOTO, 8, 2, interlace=True)}
CUTS = [
    Case(f"cut at {percent}.{name}", data[: len(data) * percent // 100], CUT if percent else EMPTY)
    for name, data in _CUT.items()
    for percent in range(0, 100, 10)
]

BOMBS = [
    *(
        Case(f"bomb.{suffix}", e.claims(image_format), BOMB)
        for suffix, image_format in {
            "jpg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "ppm": "PPM", "tif": "TIFF", "jp2": "JPEG2000",
        }.items()
    ),
    Case("bomb.webp", e.claims("WEBP"), DAMAGED),
    Case("bomb that unpacks.png", pil("PNG", "1", Image.new("1", (11_000, 10_000))), BOMB),
    Case("bomb in a comment.png", e.swollen_comment(), BOMB),
    Case("bomb below the limit.jpg", e.claims("JPEG", 9_000), CUT),
    Case("bomb below the limit.png", e.claims("PNG", 9_000), CUT),
    Case("one pixel.png", pil("PNG", pixels=RED), flat(1, 1)),
    Case("one pixel.jpg", pil("JPEG", pixels=RED), flat(1, 1)),
    Case("1 x 5000.png", pil("PNG", pixels=RED.resize((1, 5000))), flat(1, 5000)),
    Case("20000 x 3.jpg", pil("JPEG", pixels=RED.resize((20_000, 3))), flat(20_000, 3)),
    Case("3 x 20000.webp.png", pil("PNG", pixels=RED.resize((3, 20_000))), flat(3, 20_000)),
    Case("no pixels.png", png(PHOTO, 8, 2, size=(0, 0)), DAMAGED),
]  # fmt: skip

DAMAGE = [
    Case("nothing.jpg", b"", EMPTY),
    Case("text.jpg", b"a note, not a picture\n" * 50, NO_IMAGE),
    Case("page.jpg", b"<!doctype html><html><body>404</body></html>", NO_IMAGE),
    Case("answer.jpg", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", NO_IMAGE),
    Case("drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', NO_IMAGE),
    Case("postscript.png", pil("EPS"), NO_IMAGE),
    Case("icon.png", pil("ICO"), NO_IMAGE),
    Case("document.jpg", pil("PDF"), UNREAD),
    Case("phone.jpg", b"\0\0\0\x18ftypheic" + bytes(64), UNREAD),
    Case("jpeg xl.jpg", b"\xff\x0a" + bytes(64), UNREAD),
    Case("layers.tif", b"8BPS\0\1" + bytes(64), UNREAD),
    Case("archive.jpg", b"PK\x03\x04" + bytes(100), NO_IMAGE),
    Case("zeros.jpg", bytes(4096), NO_IMAGE),
    Case("prefix.jpg", b"\n" + JPEG, NO_IMAGE),
    Case("start and end.jpg", b"\xff\xd8\xff\xd9", DAMAGED),
    Case("wrong checksum.png", e.patched(PNG, PNG.index(b"IDAT") + 10, b"\0\0\0"), DAMAGED),
    Case("jpeg inside.png", JPEG, NEAR),
    Case("png inside.jpg", PNG, EXACT),
    Case("icon.ico", pil("ICO"), Left()),
    Case("notes.txt", b"notes", Left()),
]

# Names of files; each holds its own name, so that it shows whose bytes were read.
NAMES = [
    Case(name, name.encode(), NO_IMAGE)
    for name in (
        "plain.jpg",
        "CAPITALS.JPG",
        "with spaces  inside .jpg",
        " leading space.jpg",
        "per%20cent %s %d%.jpg",
        "plus+and&ampersand=.jpg",
        "hash#1.jpg",
        "question?.jpg",
        "star*.jpg",
        "brackets[1]{2}.jpg",
        'it\'s "quoted".jpg',
        "back\\slash.jpg",
        "new\nline.jpg",
        "tab\tand\x7fdelete.jpg",
        "-rf.jpg",
        "~.jpg",
        "colons::s3.jpg",
        "semicolon;$(touch x)`touch y`.jpg",
        "日本語 фото ελληνικά.jpg",
        "😀.jpg",
        "\u202eright to left.jpg",
        unicodedata.normalize("NFC", "composed é.jpg"),
        unicodedata.normalize("NFD", "composed é.jpg"),
        "x" * 251 + ".jpg",
        "/".join(["y" * 75] * 4) + "/deep.jpg",
        "a.tar#b/c.jpg",
        "two.png.jpg",
        "a..b...jpg",
        "COM1.jpg",
    )
]
NAMES += [Case(name, JPEG, Left()) for name in (".hidden.jpg", ".folder/hidden.jpg", "no suffix")]

IMAGES: list[Case] = [*FORMATS, *ORIENTATIONS, *CUTS, *BOMBS, *DAMAGE, *NAMES]
