"""CSV and JSON Lines manifests: where URIs lead, which ids result, what is refused."""

from __future__ import annotations

import http.server
from dataclasses import replace

import fsspec
import pytest
from servers import web_server
from sources.made_inputs import images, plan, small_image, small_images, write_csv, write_folder, write_jsonl

from fastsam_batch.corpus.plan import read_plans, write_plan
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.sources import open_source
from fastsam_batch.sources.base import ImageRef
from fastsam_batch.sources.fetch import fetch_image


@pytest.fixture(params=["csv", "jsonl"])
def write(request):
    """Writes rows as a manifest of either kind: write(folder / "list", rows)."""

    def to(path, rows):
        path = path.with_suffix(f".{request.param}")
        return (write_csv if request.param == "csv" else write_jsonl)(path, rows)

    return to


def test_relative_absolute_and_remote_uris(tmp_path, write):
    write_folder(tmp_path / "pictures", small_images(2))
    fsspec.filesystem("memory").pipe_file("/far/c.png", small_image(9))
    rows = [
        {"uri": "../pictures/0000.png"},
        {"uri": str(tmp_path / "pictures" / "0001.png")},
        {"uri": "memory://far/c.png"},
        {"uri": "gone.png"},
        {"uri": f"file:{tmp_path}/pictures/0000.png"},
    ]
    path = write(tmp_path / "lists" / "list", rows)
    found = images(open_source(str(path)))
    assert [image.data for image in found] == [small_image(0), small_image(1), small_image(9), None, small_image(0)]
    assert [image.image_id for image in found] == [row["uri"] for row in rows]
    assert found[0].uri == str(tmp_path / "pictures" / "0000.png")
    assert found[3].error_kind == "missing"


def test_ids_are_text_as_written_and_default_to_the_uri(tmp_path, write):
    write_folder(tmp_path, small_images(4))
    ids = ["007", 'a,b "c"', "zwölf", ""]
    rows = [{"image_id": ids[number], "uri": f"{number:04d}.png"} for number in range(4)]
    found = images(open_source(str(write(tmp_path / "list", rows))))
    assert [image.image_id for image in found] == ["007", 'a,b "c"', "zwölf", "0003.png"]
    assert all(image.error_kind is None for image in found)


def test_numbers_in_json_and_blank_lines(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"uri": "a.png", "image_id": 7, "label": {"x": [1]}}\n\n{"uri": "b.png", "image_id": null}\n')
    assert [member.image_id for row in plan(open_source(str(path))) for member in row.members] == [
        "7",
        "b.png",
    ]


def test_a_byte_order_mark_and_windows_lines(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b'\xef\xbb\xbfuri,label\r\na.png,x\r\nb.png,"two\r\nlines"\r\n')
    assert [member.image_id for row in plan(open_source(str(path))) for member in row.members] == [
        "a.png",
        "b.png",
    ]


def test_spaces_behind_commas(tmp_path):
    (tmp_path / "list.csv").write_text("uri, image_id, note, note\na.png, 1, x, y\n")  # others may come twice
    (row,) = plan(open_source(str(tmp_path / "list.csv")))
    assert [(member.image_id, member.uri) for member in row.members] == [("1", str(tmp_path / "a.png"))]


def test_a_scheme_in_capitals(tmp_path, write):
    path = write(tmp_path / "list", [{"uri": "MEMORY://far/a.png"}])
    fsspec.filesystem("memory").pipe_file("/far/a.png", b"1")
    (found,) = images(open_source(str(path)))
    assert (found.image_id, found.uri, found.data) == ("MEMORY://far/a.png", "memory://far/a.png", b"1")


@pytest.mark.parametrize("status", [401, 403])
def test_an_address_whose_signature_has_expired_says_nothing_of_its_image(status):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status)

        def log_message(self, *_):
            pass

    with web_server(Refusing) as server:
        address = f"{server}/a.png"
        assert fetch_image(ImageRef("a", address)).error_kind == "unreadable"
        signed = ImageRef("a", f"{address}?X-Amz-Signature=SECRET")
        with pytest.raises(OutageError, match="may have expired; sign it anew") as told:
            fetch_image(signed)
        assert "SECRET" not in str(told.value)
        recorded = fetch_image(signed, record_unreachable=True)
        assert (recorded.error_kind, recorded.uri) == ("unreachable", address)


def test_other_column_names(tmp_path, write):
    path = write(tmp_path / "list", [{"link": "a.png", "key": "k"}])
    (row,) = plan(open_source(str(path), uri_column="link", id_column="key"))
    assert [(member.image_id, member.uri) for member in row.members] == [("k", str(tmp_path / "a.png"))]


def test_a_name_that_no_row_has_is_no_id_column(tmp_path, write):
    rows = [{"uri": "a.png", "photo_id": "k"}, {"uri": "b.png", "photo_id": "l"}]
    path = write(tmp_path / "list", rows)
    with pytest.raises(
        InputError, match=r"list\.\w+ has no column 'photoid': its columns are photo_id, uri; mend --id-c"
    ):
        plan(open_source(str(path), id_column="photoid"))
    assert len(plan(open_source(str(path)))[0].members) == 2


def test_local_uris_may_be_quoted_or_not(tmp_path, write):
    for name in ("a b.png", "c%20d.png", "e.png"):
        (tmp_path / name).write_bytes(small_image(1))
    uris = [(tmp_path / "a b.png").as_uri(), f"file:{tmp_path}/a%20b.png", f"file://{tmp_path}/a b.png"]
    uris += [f"file://{tmp_path}/c%20d.png", (tmp_path / "c%20d.png").as_uri(), f"file://{tmp_path}/e.png"]
    path = write(tmp_path / "list", [{"uri": uri} for uri in uris])
    assert [image.data for image in images(open_source(str(path)))] == [small_image(1)] * 6
    gone = write(tmp_path / "gone", [{"uri": f"file://{tmp_path}/none%20.png"}])
    (image,) = images(open_source(str(gone)))
    assert image.error_kind == "missing" and "none%20.png" in image.error_message


def test_a_rerun_adds_only_rows_with_a_new_id(tmp_path, write):
    rows = [{"uri": f"{number}.png"} for number in range(6)]
    path = write(tmp_path / "list", rows)
    before = plan(open_source(str(path)))
    assert [(row.start, row.stop, row.shard) for row in before] == [(0, 4, path.name), (4, 6, path.name)]
    write(tmp_path / "list", [{"uri": "new.png"}, *rows, {"uri": "newer.png"}])
    after = plan(open_source(str(path)), before)
    assert [[member.image_id for member in row.members] for row in after] == [["new.png", "newer.png"]]
    assert after[0].unit_id == before[0].unit_id.replace("-000000000", "-000000006")


def test_a_folder_of_manifests(tmp_path, write):
    write(tmp_path / "a" / "list", [{"uri": "x.png", "image_id": "1"}, {"uri": "y.png", "image_id": "2"}])
    write(tmp_path / "b" / "list", [{"uri": "x.png", "image_id": "3"}])
    rows = plan(open_source(str(tmp_path)))
    members = [(member.image_id, member.uri) for row in rows for member in row.members]
    assert members == [
        ("1", f"{tmp_path}/a/x.png"),
        ("2", f"{tmp_path}/a/y.png"),
        ("3", f"{tmp_path}/b/x.png"),
    ]
    assert len({row.unit_id for row in rows}) == 2
    assert sum(len(row.members) for row in plan(open_source(str(tmp_path)), limit=2)) == 2


def test_behind_a_signed_address(tmp_path, write, web):
    write_folder(tmp_path, small_images(1))
    path = write(tmp_path / "list", [{"uri": "0000.png"}])
    (found,) = images(open_source(f"{web}/{path.name}?X-Signature=secret"))
    assert (found.image_id, found.uri, found.data) == ("0000.png", f"{web}/0000.png", small_image(0))


def test_signed_uris_are_read_and_their_secrets_not_stored(tmp_path, write, web):
    write_folder(tmp_path, small_images(3))

    def listed(signature, count):
        rows = [{"uri": f"{web}/{number:04d}.png?X-Signature={signature}"} for number in range(count)]
        return open_source(str(write(tmp_path / "list", rows)))

    first = listed("secret", 2)
    planned_rows = plan(first)
    write_plan(str(tmp_path / "corpus"), 1, planned_rows)
    stored, _ = read_plans(str(tmp_path / "corpus"))
    assert [[member.image_id, member.uri] for row in stored for member in row.members] == [
        [f"{web}/{number:04d}.png"] * 2 for number in range(2)
    ]
    assert "secret" not in str(stored)
    assert first.renewed(stored) == planned_rows
    again = listed("fresh", 3)
    assert [ref.image_id for row in plan(again, stored) for ref in row.members] == [f"{web}/0002.png"]
    for source in (again, listed("fresh", 3)):  # planned before, or not
        renewed = source.renewed(stored)
        assert [ref.uri.partition("?")[2] for row in renewed for ref in row.members] == ["X-Signature=fresh"] * 2
        assert [image.data for image in images(source, renewed)] == [small_image(0), small_image(1)]
    moved = write(tmp_path / "list", [{"uri": "https://elsewhere/x?y", "image_id": f"{web}/0000.png"}])
    assert open_source(str(moved)).renewed(stored) == stored


def test_ids_of_older_corpora_are_uris_with_their_secrets(tmp_path, write):
    source = open_source(str(write(tmp_path / "list", [{"uri": "https://host/a.png?sig=1"}])))
    before = [
        replace(row, members=(ImageRef("https://host/a.png?sig=1", "https://host/a.png?sig=1"),))
        for row in plan(source)
    ]
    assert plan(source, before) == []


def test_a_query_may_name_the_image(tmp_path, write, web):
    write_folder(tmp_path, small_images(1))
    uris = [f"{web}/0000.png?id={number}" for number in range(3)]

    def listed(count):
        return open_source(str(write(tmp_path / "list", [{"uri": uri} for uri in uris[:count]])))

    write_plan(str(tmp_path / "corpus"), 1, plan(listed(2)))
    stored, _ = read_plans(str(tmp_path / "corpus"))
    assert [[ref.image_id, ref.uri] for row in stored for ref in row.members] == [[uri, uri] for uri in uris[:2]]
    more = listed(3)
    assert [ref.image_id for row in plan(more, stored) for ref in row.members] == uris[2:]
    assert more.renewed(stored) == stored
    assert [image.uri for image in images(more, stored)] == uris[:2]


def test_an_id_given_twice_is_refused(tmp_path, write):
    path = write(tmp_path / "list", [{"uri": "a.png", "image_id": "x"}, {"uri": "b.png", "image_id": "x"}])
    with pytest.raises(InputError, match=r"list\..*'x' a second time"):
        plan(open_source(str(path)))
    write(tmp_path / "list", [{"uri": "a.png", "image_id": "x"}])
    write(tmp_path / "more", [{"uri": "b.png", "image_id": "x"}])
    with pytest.raises(InputError, match=r"more\..*'x' a second time \(first in .*list\."):
        plan(open_source(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "m.csv",
            b"link,label\na.png,x\n",
            r"m\.csv line 2 has no 'uri' \(it has link, label\).*--uri-column",
        ),
        ("m.csv", b"uri,label\na.png,x\n,y\n", r"m\.csv line 3 has no 'uri'"),
        ("m.csv", b"uri\na.png,x\n", r"m\.csv line 2 has more fields"),
        ("m.csv", b'uri\n"a.png\n', r"m\.csv line \d is not CSV"),
        ("m.csv", b"uri\n\xff\xfe.png\n", r"m\.csv is not UTF-8"),
        ("m.csv", b"uri;image_id\na.png;1\n", r"m\.csv line 1 separates its columns by ';': save it with commas"),
        ("m.csv", b"uri\n", r"m\.csv lists no images"),
        ("m.csv", b"", r"m\.csv lists no images"),
        ("m.jsonl", b'{"uri": "a.png"}\n{"uri": \n', r"m\.jsonl line 2 is not JSON"),
        ("m.jsonl", b'["a.png"]\n', r"m\.jsonl line 1 is not a JSON object"),
        ("m.jsonl", b'{"link": "a.png"}\n', r"m\.jsonl line 1 has no 'uri' \(it has link\)"),
        ("m.jsonl", b'{"uri": ["a.png"]}\n', r"m\.jsonl line 1 has \[\"a\.png\"\] for its 'uri': write text"),
        ("m.jsonl", b'{"uri": 5}\n', r"m\.jsonl line 1 has 5 for its 'uri'"),
        ("m.csv", b"uri,uri\na.png,b.png\n", r"m\.csv line 1 names the column 'uri' twice"),
        ("m.jsonl", b'{"uri": "a\\ud800.jpg"}\n', r"m\.jsonl line 1 holds half a surrogate"),
        ("m.jsonl", b'{"uri": "a.jpg"}\n{"uri": "a\\udcff.jpg"}\n', r"m\.jsonl line 2 holds half a surrogate"),
        ("m.jsonl", b'{"uri": "a.jpg", "image_id": "\\udcff"}\n', r"m\.jsonl line 1 holds half a surrogate"),
        ("m.jsonl", b'{"uri": ' + b"1" * 5000 + b"}\n", r"m\.jsonl line 1 is not JSON"),
        ("m.ndjson", b"{}\n", r"m\.ndjson line 1 has no 'uri' \(it has nothing\)"),
    ],
)
def test_manifests_that_cannot_be_used_name_file_and_line(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        plan(open_source(str(tmp_path / name)))
    assert "\n" not in str(caught.value)


def test_a_second_image_of_a_uri_that_names_the_first(tmp_path):
    """Only an image without an id of its own is known by its URI."""
    (tmp_path / "m.csv").write_text("uri,image_id\n/x/0.jpg,\n")
    before = plan(open_source(str(tmp_path / "m.csv")))
    (tmp_path / "m.csv").write_text("uri,image_id\n/x/0.jpg,\n/x/0.jpg,copy\n")
    new = plan(open_source(str(tmp_path / "m.csv")), before)
    assert [[member.image_id for member in row.members] for row in new] == [["copy"]]
