"""Masks and names that models gave photographs without labels: what is believed, kept and read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle
from training.clip.crops import crops_of
from training.clip.model import FILL_RGB
from training.photographs import read_data, read_image
from training.taught import TaughtMask, read_taught, write_taught
from training.things import ThingFinder, main, things_of


def square(left: int, top: int, side: int, hw: tuple[int, int] = (96, 96)) -> Rle:
    mask = np.zeros(hw, np.uint8, order="F")
    mask[top : top + side, left : left + side] = 1
    return Rle(hw, coco_mask.encode(mask)["counts"].decode())


def captioned(data_folder: Path):
    return [photograph for photograph in read_data(data_folder).train if photograph.captions]


def test_things_have_names_and_scores(weights: Path, data_folder: Path, tmp_path: Path) -> None:
    names = read_data(data_folder).coco_names
    finder = ThingFinder(weights, len(names), imgsz=96)
    photograph = captioned(data_folder)[0]
    found = finder.find(read_image(photograph.path), 0.3)
    assert found and {thing.name for thing in found} == {1}
    assert all(thing.rle.size == (96, 96) and thing.score == pytest.approx(0.55, abs=0.01) for thing in found)
    assert finder.find(read_image(photograph.path), 0.6) == []
    file = tmp_path / "things.json"
    arguments = ["--data", str(data_folder), "--weights", str(weights), "--output", str(file), "--imgsz", "96"]
    assert main([*arguments, "--threads", "1"]) == 0
    taught = read_taught([file], captioned(data_folder))
    assert taught and {thing.name for photograph in taught for thing in photograph.things} == {names[1]}


def test_a_caption_makes_half_a_word_enough(weights: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = read_data(data_folder).coco_names
    finder = ThingFinder(weights, len(names), imgsz=96)
    monkeypatch.setattr("training.things.SURE", 0.7)
    named = {any(names[1] in caption for caption in each.captions) for each in captioned(data_folder)}
    assert named == {True, False}
    for photograph in captioned(data_folder):
        believed = things_of(photograph, finder, names)
        assert bool(believed) == any(names[1] in caption for caption in photograph.captions)


def test_another_number_of_classes_is_refused(weights: Path, tmp_path: Path, data_folder: Path, capsys) -> None:
    with pytest.raises(InputError, match="knows 3 classes, not the 80"):
        ThingFinder(weights, 80)
    arguments = ["--data", str(tmp_path), "--weights", str(weights), "--output", str(tmp_path / "x.json")]
    assert main(arguments) == 2
    assert "coco-masks" in capsys.readouterr().err


def test_files_together_hold_each_mask_once(data_folder: Path, tmp_path: Path) -> None:
    photographs = captioned(data_folder)
    name = photographs[0].path.name
    named, nameless = tmp_path / "things.json", tmp_path / "taught.json"
    write_taught({name: [TaughtMask(square(10, 10, 40), 0.9, "cat")]}, named)
    write_taught({name: [TaughtMask(square(11, 10, 40), 0.9), TaughtMask(square(60, 60, 20), 0.4)]}, nameless)
    (taught,) = read_taught([named, nameless], photographs)
    assert [thing.name for thing in taught.things] == ["cat", "thing"]
    assert taught.things[1].box_xywh == (60, 60, 20, 20) and taught.things[1].area == 400
    assert taught.captions == photographs[0].captions
    (other,) = read_taught([nameless], photographs)
    assert [thing.name for thing in other.things] == ["thing", "thing"]


def test_taught_things_are_crops_with_names(data_folder: Path, tmp_path: Path) -> None:
    photographs = captioned(data_folder)
    file = tmp_path / "things.json"
    write_taught({photographs[0].path.name: [TaughtMask(square(10, 10, 40), 0.9, "cat")]}, file)
    (taught,) = read_taught([file], photographs)
    rows = [row for row, _ in crops_of(taught, None, 64, FILL_RGB)]
    assert [(row.group, row.kind, row.name) for row in rows] == [
        ("taught", "masked", "cat"),
        ("taught", "context", "cat"),
        ("caption", "context", None),
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"a.jpg": [{"size": 3}]}', '{"a.jpg": [{"size": [3, 4], "counts": 5}]}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(InputError, match="--taught"):
        read_taught([file], [])


def test_the_file_is_plain(tmp_path: Path) -> None:
    write_taught({"a.jpg": [TaughtMask(square(0, 0, 2, (4, 4)), 0.12345)]}, tmp_path / "a.json")
    (mask,) = json.loads((tmp_path / "a.json").read_text())["a.jpg"]
    assert mask == {"size": [4, 4], "counts": mask["counts"], "score": 0.123}
