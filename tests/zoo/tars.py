"""The zoo's tar shards: odd members, lies in headers, cuts, bombs, and what becomes of each image in them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Iterable

from zoo.encode import pil
from zoo.outcome import BROKEN, CUT, EMPTY, NEAR, NO_IMAGE, UNREAD, Case

JPEG = pil("JPEG")
BLOCK = 512
Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = JPEG, **fields: object) -> Member:
    """A member of any type; `fields` overwrite what its header says."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar(members: Iterable[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of the members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def header(name: bytes, size: bytes, kind: bytes = b"0", magic: bytes = b"ustar\x0000", tail: bytes = b"") -> bytes:
    """One header block by hand; `size` is the 12 bytes of its size field, `tail` what follows the magic at 265."""
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:108] = b"0000644\0"
    block[124 : 124 + len(size)] = size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = magic
    block[265 : 265 + len(tail)] = tail
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(value: int) -> bytes:
    """A size field as tar writes it; base 256 where eleven digits do not hold it."""
    return b"%011o\0" % value if value < 8**11 else b"\x80" + value.to_bytes(11, "big")


def padded(data: bytes) -> bytes:
    """Whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def sparse(size: int, stored: bytes) -> bytes:
    """A GNU sparse member: `size` bytes when unpacked, of which `stored` alone lies in the archive."""
    tail = bytearray(BLOCK - 265)
    tail[121:133], tail[133:145] = octal(0), octal(len(stored))  # its only piece, at offset 386 of the header
    tail[218:230] = octal(size)  # at 483
    return header(b"sparse.jpg", octal(len(stored)), b"S", b"ustar  \0", bytes(tail)) + padded(stored)


def long_name(claimed: int, body: bytes) -> bytes:
    """A GNU long-name header that claims so many bytes."""
    return header(b"././@LongLink", octal(claimed), b"L", b"ustar  \0") + padded(body)


OTHER = pil("JPEG", quality=90)
TWO = tar([file("one.jpg"), file("two.jpg", OTHER)])
FIRST = BLOCK + len(padded(JPEG))  # where the second header lies
END = bytes(2 * BLOCK)
BOTH = {"one.jpg": NEAR, "two.jpg": NEAR}
ONE_THEN_BROKEN = {"one.jpg": NEAR, "#broken": BROKEN}
ONLY_BROKEN = {"#broken": BROKEN}
ODD_KINDS = {
    "symbolic link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "hard link": {"type": tarfile.LNKTYPE, "linkname": "one.jpg"},
    "folder": {"type": tarfile.DIRTYPE},
    "pipe": {"type": tarfile.FIFOTYPE},
    "device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
}


def _spoilt_in_gzip() -> bytes:
    data = bytearray(gzip.compress(TWO, mtime=0))
    data[-6] ^= 0xFF  # its checksum
    return bytes(data)


TARS: list[Case] = [
    Case("plain.tar", TWO, BOTH),
    Case("gnu.tar", tar([file("one.jpg"), file("two.jpg")], tarfile.GNU_FORMAT), BOTH),
    Case("ustar.tar", tar([file("one.jpg"), file("two.jpg")], tarfile.USTAR_FORMAT), BOTH),
    Case("gzip.tar.gz", gzip.compress(TWO, mtime=0), BOTH),
    Case("gzip in pieces.tgz", gzip.compress(TWO[:3000], mtime=0) + gzip.compress(TWO[3000:], mtime=0), BOTH),
    Case("gzip by another name.tar", gzip.compress(TWO, mtime=0), BOTH),
    Case("no members.tar", END, {}),
    Case("no images.tar", tar([file("label.json", b"{}")]), {}),
    Case("absolute path.tar", tar([file("/etc/cron.d/one.jpg")]), {"etc/cron.d/one.jpg": NEAR}),
    Case("path upwards.tar", tar([file("../../one.jpg")]), {"../../one.jpg": NEAR}),
    Case("dot path.tar", tar([file("./one.jpg")]), {"one.jpg": NEAR}),
    *(Case(f"{name}.tar", tar([file("one.jpg"), file("odd.jpg", b"", **fields)]),
           {"one.jpg": NEAR, "odd.jpg": UNREAD} if "link" in name else {"one.jpg": NEAR})
      for name, fields in ODD_KINDS.items()),
    Case("two by cat.tar", TWO + tar([file("one.jpg"), file("three.jpg")]),
         {**BOTH, "one.jpg#2": NEAR, "three.jpg": NEAR}),
    Case("two by cat.tar.gz", gzip.compress(TWO) + gzip.compress(tar([file("three.jpg")])),
         {**BOTH, "three.jpg": NEAR}),
    Case("text behind the end.tar", TWO + b"this is no archive\n" * 100, {**BOTH, "#broken": BROKEN}),
    Case("duplicates.tar", tar([file("one.jpg")] * 3), {"one.jpg": NEAR, "one.jpg#2": NEAR, "one.jpg#3": NEAR}),
    Case("long names.tar", tar([file("x" * 300 + ".jpg")]), {"x" * 300 + ".jpg": NEAR}),
    Case("long gnu names.tar", tar([file("x" * 300 + ".jpg")], tarfile.GNU_FORMAT), {"x" * 300 + ".jpg": NEAR}),
    Case("unicode.tar", tar([file("日本 😀 é.jpg")]), {"日本 😀 é.jpg": NEAR}),
    Case("new line.tar", tar([file("a\nb.jpg")]), {"a\nb.jpg": NEAR}),
    Case("signs.tar", tar([file("100% 'a' \"b\" #1 ?.jpg")]), {"100% 'a' \"b\" #1 ?.jpg": NEAR}),
    Case("leading dash.tar", tar([file("--checkpoint-action=exec=sh.jpg")]), {"--checkpoint-action=exec=sh.jpg": NEAR}),
    Case("hidden.tar", tar([file("._one.jpg"), file("one.jpg")]), {"one.jpg": NEAR}),
    Case("foreign bytes.tar", tar([file("caf\udce9.jpg")], tarfile.GNU_FORMAT), {"caf\\xe9.jpg": NEAR}),
    Case("bad images.tar", tar([file("0.jpg", b""), file("1.jpg", b"text"), file("2.jpg", JPEG[:900])]),
         {"0.jpg": EMPTY, "1.jpg": NO_IMAGE, "2.jpg": CUT}),
    Case("sparse.tar", sparse(len(JPEG) + 10_000, JPEG) + END, {"sparse.jpg": UNREAD}),
    Case("sparse without end.tar", sparse(2**62, JPEG[:BLOCK]) + TWO, {"sparse.jpg": UNREAD, **BOTH}),
    Case("long name without end.tar", TWO[:FIRST] + long_name(2**40, b"x.jpg\0"), ONE_THEN_BROKEN),
    Case("long name that unpacks.tar.gz",
         gzip.compress(TWO[:FIRST] + long_name(2**26, bytes(2**26)) + TWO, 1), ONE_THEN_BROKEN),
    Case("size of a file without end.tar", TWO[:FIRST] + header(b"two.jpg", octal(2**62)), ONE_THEN_BROKEN),
    Case("size of a note without end.tar", TWO[:FIRST] + header(b"note.txt", octal(2**62)) + TWO, ONE_THEN_BROKEN),
    Case("size of a note without end.tar.gz",
         gzip.compress(TWO[:FIRST] + header(b"note.txt", octal(2**62)) + TWO), ONE_THEN_BROKEN),
    Case("size below zero.tar", TWO[:FIRST] + header(b"two.jpg", b"\xff" * 12) + TWO, ONE_THEN_BROKEN),
    Case("size that is no number.tar", TWO[:FIRST] + header(b"two.jpg", b"elephants\0"), ONE_THEN_BROKEN),
    Case("broken header.tar", TWO[:FIRST] + b"\x99" * BLOCK + TWO[FIRST + BLOCK :], ONE_THEN_BROKEN),
    Case("pax nonsense.tar",
         TWO[:FIRST] + header(b"pax", octal(13), b"x") + padded(b"0 path=a.jpg\n") + TWO[FIRST:],
         ONE_THEN_BROKEN),
    Case("pax size below zero.tar",
         TWO[:FIRST] + header(b"pax", octal(14), b"x") + padded(b"14 size=-1000\n") + TWO[FIRST:], ONE_THEN_BROKEN),
    Case("cut in a header.tar", TWO[: FIRST + 100], ONE_THEN_BROKEN),
    Case("cut in data.tar", TWO[: FIRST + BLOCK + 100], ONE_THEN_BROKEN),
    Case("cut before the end mark.tar", TWO[: FIRST + BLOCK + len(padded(OTHER))], {**BOTH, "#broken": BROKEN}),
    Case("cut gzip.tar.gz", gzip.compress(TWO, mtime=0)[:-200], ONE_THEN_BROKEN),
    Case("gzip with a wrong checksum.tar.gz", _spoilt_in_gzip(), BOTH),
    Case("gzip bomb.tar.gz", gzip.compress(tar([file("one.jpg"), file("bomb.jpg", bytes(2**25))]), 1),
         {"one.jpg": NEAR, "bomb.jpg": NO_IMAGE}),
    Case("gzip bomb beside.tar.gz", gzip.compress(tar([file("bomb.bin", bytes(2**26)), file("one.jpg")]), 1),
         {"one.jpg": NEAR}),
    Case("gzip bomb after the end.tar.gz", gzip.compress(TWO + bytes(2**26), 1), BOTH),
    Case("no bytes.tar", b"", ONLY_BROKEN),
    Case("text.tar", b"this is no archive\n" * 100, ONLY_BROKEN),
    Case("zip.tar", b"PK\x03\x04" + bytes(1000), ONLY_BROKEN),
    Case("gzip header alone.tar.gz", b"\x1f\x8b\x08\0 nothing", ONLY_BROKEN),
    Case("zlib.tar.gz", zlib.compress(TWO), ONLY_BROKEN),
    Case("image.tar", JPEG, ONLY_BROKEN),
    Case("end mark before all.tar", struct.pack("512s", b"") * 2 + TWO, BOTH),
]  # fmt: skip
