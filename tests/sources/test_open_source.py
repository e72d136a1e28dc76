"""Which source a URI opens, and that all of them bring the same bytes."""

from __future__ import annotations

import subprocess
import sys

import fsspec
import pytest
from sources.flaky import FlakyFileSystem
from sources.made_inputs import (
    digests,
    images,
    photographs,
    plan,
    small_images,
    units,
    write_csv,
    write_folder,
    write_jsonl,
    write_parquet,
    write_tar,
)

from fastsam_batch.corpus.info import describe, write_info
from fastsam_batch.corpus.plan import write_plan
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.sources import open_source, read_image_bytes
from fastsam_batch.sources.demo import DemoSource
from fastsam_batch.sources.folder import FolderSource
from fastsam_batch.sources.manifest import ManifestSource
from fastsam_batch.sources.parquet import ParquetSource
from fastsam_batch.sources.tar import TarSource


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The same photographs in every form, below one folder."""
    folder = tmp_path_factory.mktemp("inputs")
    named = photographs()
    write_folder(folder / "folder", named)
    half = len(named) // 2
    shards = [list(named.items())[:half], list(named.items())[half:]]
    write_tar(folder / "one.tar", named.items())
    write_tar(folder / "one.tgz", named.items())
    for number, members in enumerate(shards):
        write_tar(folder / "tars" / f"{number:05d}.tar", members)
        write_tar(folder / "gz" / "deep" / f"{number:05d}.tar.gz", members)
        content = {"bytes": [data for _, data in members], "image_id": [name for name, _ in members]}
        write_parquet(folder / "parquets" / f"part-{number}.parquet", content, row_group_size=3)
    write_parquet(folder / "one.parquet", {"bytes": list(named.values())})
    absolute = [str(folder / "folder" / name) for name in named]
    write_parquet(folder / "uris.parquet", {"uri": absolute, "image_id": list(named)})
    relative = [{"uri": f"folder/{name}", "image_id": name} for name in named]
    write_csv(folder / "list.csv", relative)
    write_jsonl(folder / "list.jsonl", [{"uri": uri} for uri in absolute])
    return folder


FORMS = [
    ("folder", FolderSource),
    ("folder/", FolderSource),
    ("folder/**/*.*g", FolderSource),
    ("one.tar", TarSource),
    ("one.tgz", TarSource),
    ("tars", TarSource),
    ("tars/*.tar", TarSource),
    ("gz", TarSource),
    ("parquets", ParquetSource),
    ("parquets/part-?.parquet", ParquetSource),
    ("one.parquet", ParquetSource),
    ("uris.parquet", ParquetSource),
    ("list.csv", ManifestSource),
    ("list.jsonl", ManifestSource),
]


@pytest.mark.parametrize(("name", "kind"), FORMS)
def test_every_form_brings_the_same_bytes(inputs, name, kind):
    source = open_source(f"{inputs}/{name}")
    assert isinstance(source, kind)
    found = images(source)
    assert digests(found) == digests(images(open_source("demo:")))
    assert len({image.image_id for image in found}) == len(found)
    for image in found:
        assert read_image_bytes(image.uri) == image.data


@pytest.mark.parametrize(("name", "kind"), FORMS)
def test_every_form_in_an_object_store(inputs, name, kind):
    store = fsspec.filesystem("memory")
    top = name.split("/")[0]
    if top != "folder":
        store.put(str(inputs / "folder"), "/data/folder", recursive=True)  # what manifests point to
    if (inputs / top).is_dir():
        store.put(str(inputs / top), f"/data/{top}", recursive=True)
    else:
        store.put_file(str(inputs / top), f"/data/{top}")
    source = open_source(f"memory://data/{name}")
    assert isinstance(source, kind)
    found = images(source)
    assert digests(found) == digests(images(open_source("demo:")))
    for image in found:
        assert read_image_bytes(image.uri) == image.data


@pytest.mark.parametrize(("name", "kind"), FORMS)
def test_planning_is_deterministic_and_repeats_nothing(inputs, name, kind):
    uri = f"{inputs}/{name}"
    first = plan(open_source(uri))
    assert first == plan(open_source(uri))
    assert plan(open_source(uri), first) == []
    source = open_source(uri)
    assert plan(source) == plan(source) == first


@pytest.mark.parametrize(("name", "kind"), FORMS)
@pytest.mark.parametrize("limit", [1, 5, 10, 100])
def test_a_limit_counts_images_and_the_rest_follows(inputs, name, kind, limit):
    uri = f"{inputs}/{name}"
    everything = images(open_source(uri))
    rows = plan(open_source(uri), limit=limit)
    some = images(open_source(uri), rows)
    assert some == everything[:limit]
    more = plan(open_source(uri), rows, limit=2)
    assert images(open_source(uri), rows + more) == everything[: limit + 2]
    rest = plan(open_source(uri), rows + more)
    assert images(open_source(uri), rows + more + rest) == everything


@pytest.mark.parametrize(("name", "kind"), FORMS)
def test_done_units_are_not_read_again(inputs, name, kind):
    source = open_source(f"{inputs}/{name}")
    rows = plan(source, unit_size=2)
    found = units(source, rows)
    assert all(len(unit.images) <= 2 for unit in found)
    for done in (found[0], found[-1]):
        left = units(source, rows, {done.unit_id})
        assert left == [unit for unit in found if unit != done]
    assert units(source, rows, {unit.unit_id for unit in found}) == []


def test_a_relative_path_is_read_from_anywhere(inputs, monkeypatch, tmp_path):
    monkeypatch.chdir(inputs)
    source = open_source("folder")
    rows = plan(source)
    monkeypatch.chdir(tmp_path)
    assert len(digests(images(source, rows))) == 10


def test_labels_beside_photographs_are_not_an_input(tmp_path):
    write_folder(tmp_path, small_images(3))
    write_csv(tmp_path / "labels.csv", [{"name": "0000.png"}])
    write_parquet(tmp_path / "boxes.parquet", {"x": [1]})
    assert isinstance(open_source(str(tmp_path)), FolderSource)


@pytest.mark.parametrize("name", ["folder", "tars", "parquets", "lists", "**/*.parquet"])
@pytest.mark.parametrize("output", ["out", "parts/out"])
def test_a_corpus_below_its_input_is_no_part_of_it(tmp_path, name, output):
    write_folder(tmp_path / "folder", small_images(2))
    write_tar(tmp_path / "tars" / "0.tar", small_images(2).items())
    write_parquet(tmp_path / "parquets" / "0.parquet", {"bytes": list(small_images(2).values())})
    write_csv(tmp_path / "lists" / "0.csv", [{"uri": "../folder/0000.png"}])
    uri = str(tmp_path / name)
    first = plan(open_source(uri))
    corpus = tmp_path / ("parquets" if "*" in name else name) / output
    corpus.mkdir(parents=True)
    write_info(str(corpus), describe(uri, {}, {}, None))
    write_plan(str(corpus), 1, first)
    write_parquet(corpus / "images" / "a.parquet", {"image_id": ["a"]})
    again = open_source(uri)
    assert plan(again, first) == []
    assert plan(again) == first


def test_images_beside_shards_are_refused(tmp_path):
    write_folder(tmp_path, small_images(3))
    write_tar(tmp_path / "a.tar", small_images(2).items())
    with pytest.raises(InputError, match=r"3.*1.*glob"):
        open_source(str(tmp_path))
    assert isinstance(open_source(f"{tmp_path}/*.tar"), TarSource)
    assert isinstance(open_source(f"{tmp_path}/*.png"), FolderSource)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("{folder}/nothing", "does not exist$"),
        ("{folder}/{{000..017}}.tar", r"does not exist; braces are not expanded: write .*/\*\.tar$"),
        ("{folder}/nothing/*.tar", "holds no images"),
        ("{folder}", "holds no images"),
        ("{folder}/*.jpg", "holds no images"),
        ("{folder}/notes.txt", "none of what can be read"),
        ("memory://nothing", "does not exist"),
        ("nosuchscheme://bucket/x", "nosuchscheme"),
        ("s3://", "cannot list s3://"),
        ("s3://a bucket/x", 'cannot list s3://a bucket/x: Invalid bucket name "a bucket"'),
        ("s3://key:secret@bucket/x", "^cannot open s3://bucket/x: S3's keys belong in the environment"),
        ("zip://*.jpg::{folder}/x.zip", "chains"),
        ("demo:astronaut.png", "the demo corpus is demo:"),
    ],
)
def test_inputs_that_cannot_be_used_say_why_in_a_sentence(tmp_path, uri, message):
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(InputError, match=message) as caught:
        open_source(uri.format(folder=tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_listed_is_not_taken_for_an_empty_one(tmp_path):
    write_folder(tmp_path / "open", small_images(1))
    closed = write_folder(tmp_path / "open" / "closed", small_images(1))
    closed.chmod(0)
    # root reads everything: the child gives up its rights first
    code = (
        "import os, sys\n"
        "from fastsam_batch.errors import InputError\n"
        "from fastsam_batch.sources import open_source\n"
        "open_source(sys.argv[1] + '/0000.png')\n"  # imports what it needs while it may
        "os.setuid(65534)\n"
        "for uri in sys.argv[1], sys.argv[1] + '/*/*.png', sys.argv[1] + '/**/*.png':\n"
        "    try: open_source(uri)\n"
        "    except InputError as error: print(error)\n"
    )
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:  # one more where tests run in several processes
        parent.chmod(0o755)
    command = [sys.executable, "-c", code, str(tmp_path / "open")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    closed.chmod(0o755)
    if "Operation not permitted" in answer.stderr:
        pytest.skip("only root can give up its rights")
    assert answer.stdout.count("cannot list") == 3, answer.stderr


def test_a_folder_that_a_store_does_not_list_for_now_is_not_left_out_of_a_glob(monkeypatch):
    for name in ("a", "b"):
        fsspec.filesystem("memory").pipe_file(f"/store/{name}/0.png", b"1")
    real = FlakyFileSystem.ls

    def ls(self, path, *arguments, **options):
        if path.rstrip("/").endswith("/b"):
            raise OSError("SlowDown")
        return real(self, path, *arguments, **options)

    assert len(images(open_source("flaky://store/*/*.png"))) == 2
    monkeypatch.setattr(FlakyFileSystem, "ls", ls)
    with pytest.raises(OutageError, match=r"cannot list flaky://store/\*/\*\.png: SlowDown"):
        open_source("flaky://store/*/*.png")


def test_the_demo_is_ten_colour_photographs_with_credits():
    from fastsam_batch.images import decode_image
    from fastsam_batch.sources.demo import PHOTOGRAPHS

    found = images(open_source("demo:"))
    assert isinstance(open_source("demo:"), DemoSource)
    assert [image.image_id for image in found] == [photograph.name for photograph in PHOTOGRAPHS]
    assert len(found) >= 8
    for image in found:
        pixels = decode_image(image.data).astype(int)
        assert abs(pixels[..., 0] - pixels[..., 2]).mean() > 5, image.image_id
        assert image.uri == f"demo:{image.image_id}"
        assert read_image_bytes(image.uri) == image.data
    assert all(photograph.credit and photograph.licence for photograph in PHOTOGRAPHS)


def test_the_demo_and_the_sources_import_nothing_heavy():
    code = (
        "import sys\n"
        "from fastsam_batch.sources import open_source\n"
        "from fastsam_batch.sources.base import Planned\n"
        "list(open_source('demo:').plan(Planned(), 128, None))\n"
        "heavy = {'torch', 'ray', 'pandas', 'pyarrow', 'skimage', 'sklearn', 'matplotlib', 'ultralytics'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
