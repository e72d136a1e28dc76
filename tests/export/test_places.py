"""Ids that other programs can make anew, and outputs that are not on this disk."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import fsspec
import pytest
from corpus.made_corpus import MadeCorpus

from fastsam_batch import storage
from fastsam_batch.cli import job
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.export.folder import Folder
from fastsam_batch.export.ids import fraction_of, image_number, mask_number


def test_ids_are_the_documented_bits() -> None:
    def documented(key: str) -> int:
        return int(hashlib.sha256(key.encode()).hexdigest(), 16) >> (256 - 53)

    assert image_number("shard.tar/cup.jpg") == documented("shard.tar/cup.jpg") == 1900271482577488
    assert mask_number("shard.tar/cup.jpg", 7) == documented("shard.tar/cup.jpg\n7")
    assert all(0 < image_number(str(number)) < 2**53 for number in range(1000))
    assert all(0 <= fraction_of(str(number)) < 1 for number in range(1000))
    assert 400 < sum(fraction_of(str(number)) < 0.5 for number in range(1000)) < 600


@pytest.mark.parametrize(
    ("format_", "output", "made"),
    [
        ("coco", "labels.json", ["labels.json"]),
        ("cvat", "labels.zip", ["labels.zip"]),
        ("sa1b", "sa", ["sa/astronaut.json", "sa/coins.json"]),
        ("label-studio", "ls", ["ls/label_config.xml", "ls/tasks-00001.json"]),
    ],
)
def test_outputs_in_another_store(made_once: MadeCorpus, format_: str, output: str, made: list[str]) -> None:
    store = f"memory://exports-{format_}"
    arguments = ["--corpus", made_once.uri, "--format", format_, "--output", f"{store}/{output}"]
    assert job("export", arguments) == 0
    fs, root = fsspec.core.url_to_fs(store)
    assert all(fs.size(f"{root}/{name}") for name in made)
    if format_ == "sa1b":
        assert json.loads(fs.cat_file(f"{root}/sa/astronaut.json"))["image"]["file_name"] == "astronaut.png"
        assert job("export", arguments) == 2  # the folder is not empty any more


def test_a_folder_that_an_outage_ends_says_that_it_is_half_written(
    made_once: MadeCorpus, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = storage.write_result, []

    def fails(uri: str, data: bytes) -> None:
        if uri.endswith("coffee.json"):
            raise OutageError(f"{uri}: connection reset by peer")
        written.append(uri)
        real(uri, data)

    monkeypatch.setattr(storage, "write_result", fails)
    arguments = ["--corpus", made_once.uri, "--format", "sa1b", "--output", "memory://half/sa"]
    assert job("export", arguments) == 2
    said = capsys.readouterr().err
    assert said == (
        "error: memory://half/sa is only partly written (memory://half/sa/coffee.json: connection reset by peer); "
        "remove it, or export to a new folder\n"
    )
    assert written


def test_an_export_that_is_interrupted_says_that_it_is_half_written(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Folder(tmp_path / "out") as folder:
            folder.write("a.json", b"{}")
            raise KeyboardInterrupt

    with pytest.raises(InputError, match=r"out is only partly written \(the export was interrupted\)"):
        interrupted()
    with pytest.raises(KeyboardInterrupt), Folder(tmp_path / "new"):  # nothing is written, and it may run again
        raise KeyboardInterrupt


def test_files_go_out_side_by_side_and_the_last_behind_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meet, done = threading.Barrier(8, timeout=30), []

    def write(uri: str, data: bytes) -> None:
        if not str(uri).endswith("last"):
            meet.wait()
        done.append(str(uri).rpartition("/")[2])

    monkeypatch.setattr(storage, "write_result", write)
    with Folder(tmp_path / "out") as folder:
        for number in range(16):
            folder.write(str(number), b"")
        folder.settle()
        assert len(done) == 16
        folder.write("last", b"")
    assert done[-1] == "last"


def test_a_store_that_cannot_be_reached_is_a_sentence(made_once: MadeCorpus, capsys, monkeypatch) -> None:
    def unreachable(*_: object, **__: object) -> bool:
        raise OSError("Could not connect to the endpoint URL")

    monkeypatch.setattr("fastsam_batch.outage.PAUSE_S", 0.001)
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "exists", unreachable)
    assert job("export", ["--corpus", made_once.uri, "--format", "sa1b", "--output", "memory://none/sa"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: memory://none/sa: ") and "endpoint URL; run the same command again" in said


@pytest.mark.parametrize(
    ("format_", "output", "option", "place"),
    [
        ("coco", "same.json", "--loss-report", "same.json"),
        ("yolo", "y", "--loss-report", "y/data.yaml"),
        ("coco-results", "truth.json", "--ground-truth", "truth.json"),
    ],
)
def test_an_export_writes_over_nothing_of_its_own(
    made_once: MadeCorpus, tmp_path: Path, monkeypatch, capsys, format_: str, output: str, option: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.json").write_text("{}")
    shape = ["--shape", "polygon"] if format_ == "coco" else []
    given = ["--corpus", made_once.uri, "--format", format_, "--output", output, option, str(tmp_path / place), *shape]
    assert job("export", given) == 2
    assert f"{place}: is --output, or lies in it; name another place" in capsys.readouterr().err
    assert (tmp_path / "truth.json").read_text() == "{}"
