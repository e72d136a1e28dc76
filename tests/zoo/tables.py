"""The zoo's Parquet files and manifests: rows by the id that becomes of them, or the sentence that refuses them."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
from zoo.encode import pil
from zoo.outcome import CUT, EMPTY, MISSING, NEAR, NO_IMAGE, Case, Failed, Refused

JPEG = pil("JPEG")
NO_BYTES, UNREADABLE = Failed("missing_bytes"), Failed("unreadable")


def parquet(columns: dict[str, object], **options: object) -> bytes:
    """A Parquet file's bytes."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def ending_arrow() -> bytes:
    """A file whose footer calls a column of text Boolean: pyarrow ends the process that looks at its chunk."""
    whole = parquet({"note": ["text"] * 3, "bytes": pictures(3)})
    said = whole.index(b"\x15\x0c")  # SchemaElement.type: BYTE_ARRAY; Thrift's compact protocol
    assert whole.count(b"\x15\x0c", said) == 4, "a schema element and a column chunk each"
    return whole[: said + 1] + b"\x00" + whole[said + 2 :]


def pictures(count: int) -> pa.Array:
    """The photograph so many times."""
    return pa.array([JPEG] * count, pa.binary())


def numbered(prefix: str, count: int) -> dict[str, object]:
    """Ids of the rows of a file, all whole."""
    return {f"{prefix}{number}": NEAR for number in range(count)}


WHOLE = parquet({"bytes": pictures(3)})
HUGGING_FACE = pa.array([{"bytes": JPEG, "path": "a.jpg"}, {"bytes": None, "path": None}])
ODD_IDS = ["日本 😀", "a b%20'\"", "line\nbreak", "x" * 300, "../../etc/passwd", "-rf"]

# `photo.jpg` lies beside these files.
PARQUETS: list[Case] = [
    Case("rows.parquet", WHOLE, numbered("rows.parquet#", 3)),
    Case("null bytes.parquet", parquet({"bytes": [JPEG, None]}),
         {"null bytes.parquet#0": NEAR, "null bytes.parquet#1": NO_BYTES}),
    Case("null ids.parquet", parquet({"bytes": [JPEG, JPEG], "image_id": ["named", None]}),
         {"named": NEAR, "null ids.parquet#1": NEAR}),
    Case("empty ids.parquet", parquet({"bytes": [JPEG, JPEG], "image_id": ["", ""]}),
         numbered("empty ids.parquet#", 2)),
    Case("odd ids.parquet", parquet({"bytes": pictures(len(ODD_IDS)), "image_id": ODD_IDS}),
         dict.fromkeys(ODD_IDS, NEAR)),
    Case("whole numbers.parquet", parquet({"bytes": pictures(2), "image_id": [7, 8]}), {"7": NEAR, "8": NEAR}),
    Case("bad bytes.parquet", parquet({"bytes": [b"", b"text", JPEG[:900]], "image_id": ["b0", "b1", "b2"]}),
         {"b0": EMPTY, "b1": NO_IMAGE, "b2": CUT}),
    Case("large binary.parquet", parquet({"bytes": pa.array([JPEG], pa.large_binary())}),
         numbered("large binary.parquet#", 1)),
    Case("dictionary.parquet", parquet({"bytes": pictures(3)}, use_dictionary=True),
         numbered("dictionary.parquet#", 3)),
    Case("hugging face.parquet", parquet({"image": HUGGING_FACE}),
         {"hugging face.parquet#0": NEAR, "hugging face.parquet#1": NO_BYTES}),
    Case("uris.parquet", parquet({"uri": ["photo.jpg", "gone.jpg", None], "image_id": ["u0", "u1", "u2"]}),
         {"u0": NEAR, "u1": MISSING, "u2": NO_BYTES}),
    Case("strange uris.parquet",
         parquet({"uri": ["reference://x.jpg", "nosuch://x.jpg"], "image_id": ["s0", "s1"]}),
         {"s0": UNREADABLE, "s1": UNREADABLE}),
    Case("no rows.parquet", parquet({"bytes": pa.array([], pa.binary())}), {}),
    Case("one row group.parquet", parquet({"bytes": [b"%d" % row for row in range(5000)]}, row_group_size=5000),
         {f"one row group.parquet#{row}": NO_IMAGE for row in range(5000)}),
    Case("row groups of one.parquet", parquet({"bytes": pictures(9)}, row_group_size=1),
         numbered("row groups of one.parquet#", 9)),
    Case("a footer that ends Arrow.parquet", ending_arrow(), numbered("a footer that ends Arrow.parquet#", 3)),
    Case("唯一 %20 'x'.parquet", WHOLE, numbered("唯一 %20 'x'.parquet#", 3)),
]  # fmt: skip

REFUSED: list[Case] = [
    Case("text in bytes.parquet", parquet({"bytes": ["a.jpg"]}), Refused("holds string in 'bytes', not bytes")),
    Case("numbers in bytes.parquet", parquet({"bytes": [1]}), Refused("holds int64 in 'bytes', not bytes")),
    Case("no such columns.parquet", parquet({"picture": [JPEG]}), Refused("its columns are picture")),
    Case("no columns.parquet", parquet({}), Refused("its columns are none")),
    Case("no rows at all.parquet", parquet({"bytes": pa.array([], pa.binary())}), Refused("holds no rows")),
    Case("no bytes.parquet", b"", Refused("is not a readable Parquet file")),
    Case("text.parquet", b"this is no Parquet file\n" * 20, Refused("is not a readable Parquet file")),
    Case("cut.parquet", WHOLE[: len(WHOLE) // 2], Refused("is not a readable Parquet file")),
    Case("wrong footer.parquet", WHOLE[:-40] + b"\xff" * 30 + WHOLE[-10:], Refused("is not a readable Parquet file")),
    Case("names that are no text.parquet",
         parquet({"bytes": pictures(1), "label": ["x"]}).replace(b"label", b"la\xba\xbal"),
         Refused("is not a readable Parquet file")),
    Case("an id twice.parquet", parquet({"bytes": pictures(3), "image_id": ["a", "b", "a"]}),
         Refused("names the image 'a' a second time")),
    Case("a number twice.parquet", parquet({"bytes": pictures(2), "image_id": [7, 7]}),
         Refused("names the image '7' a second time")),
    Case("no uri column.csv", b"link\na.jpg\n", Refused("line 2 has no 'uri'")),
    Case("an empty uri.csv", b"uri\na.jpg\n\"\"\n", Refused("line 3 has no 'uri'")),
    Case("an id twice.csv", b"uri,image_id\na.jpg,x\nb.jpg,x\n", Refused("names the image 'x' a second time")),
    Case("the same uri twice.csv", b"uri\na.jpg\na.jpg\n", Refused("names the image 'a.jpg' a second time")),
    Case("foreign bytes.csv", "uri\nécole.jpg\n".encode("latin-1"), Refused("is not UTF-8 text")),
    Case("utf-16.csv", "uri\na.jpg\n".encode("utf-16"), Refused("is not UTF-8 text")),
    Case("open quote.csv", b'uri\n"a.jpg\n', Refused("is not CSV")),
    Case("too many fields.csv", b"uri\na.jpg,b.jpg\n", Refused("more fields than the header")),
    Case("nothing.csv", b"", Refused("lists no images")),
    Case("not json.jsonl", b'{"uri": "a.jpg"}\n{uri}\n', Refused("line 2 is not JSON")),
    Case("a list.jsonl", b'["a.jpg"]\n', Refused("line 1 is not a JSON object")),
    Case("deep.jsonl", b'{"uri": ' + b"[" * 100_000 + b"\n", Refused("line 1 is not JSON")),
    Case("a scheme of no store.csv", b"uri\nreference://x.jpg\n", Refused("line 2 names reference://")),
    Case("a chain.csv", b"uri\nsimplecache::s3://a/b.jpg\n", Refused("line 2 names simplecache::s3://")),
    Case("notes.txt", b"notes", Refused("is none of what can be read")),
]  # fmt: skip

MANIFESTS: list[Case] = [
    Case("plain.csv", b"uri,image_id\nphoto.jpg,p0\n", {"p0": NEAR}),
    Case("marked.csv", b"\xef\xbb\xbfuri,image_id\r\nphoto.jpg,p1\r\n", {"p1": NEAR}),
    Case("old mac.csv", b"uri,image_id\rphoto.jpg,p2\r", {"p2": NEAR}),
    Case("quoted.csv", b'uri,image_id\n"photo, with ""signs"" %20.jpg",p3\n', {"p3": NEAR}),
    Case("missing.csv", b"uri,image_id\ngone.jpg,p4\n/none/gone.jpg,p5\n", {"p4": MISSING, "p5": MISSING}),
    Case("no images.csv", b"uri,image_id\npassword.txt,p6\n.,p7\n", {"p6": NO_IMAGE, "p7": UNREADABLE}),
    Case("file uri.csv", b"uri,image_id\nphoto.jpg,p8\n./photo.jpg,p9\n", {"p8": NEAR, "p9": NEAR}),
    Case("lines.jsonl", '{"uri": "photo.jpg", "image_id": "日本 😀"}\r\n\n'.encode(), {"日本 😀": NEAR}),
    Case("null character.jsonl", b'{"uri": "a\\u0000.jpg", "image_id": "p12"}\n', {"p12": UNREADABLE}),
    Case("long line.jsonl", b'{"image_id": "p11", "note": "' + b"x" * 1_000_000 + b'", "uri": "photo.jpg"}\n',
         {"p11": NEAR}),
]  # fmt: skip
