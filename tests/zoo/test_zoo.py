"""The whole zoo through the real job: every case ends as its table says, and no job dies."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo.encode import pil
from zoo.images import IMAGES, JPEG
from zoo.outcome import Case, Failed, Left, Refused, Whole
from zoo.tables import MANIFESTS, PARQUETS, REFUSED
from zoo.tars import TARS

from fastsam_batch.config import segment_options
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.errors import InputError
from fastsam_batch.images import ImageError, decode_image
from fastsam_batch.models.pair import load_models
from fastsam_batch.run import segment_corpus
from fastsam_batch.sources import open_source, read_image_bytes
from fastsam_batch.sources.base import Planned
from fastsam_batch.unit import UnitOptions, process_unit


def write(folder: Path, cases: Iterable[Case]) -> Path:
    for case in cases:
        path = folder / case.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.data)
    return folder


def segmented(folder: Path, pattern: str, output: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The job's summary and its images by id; the corpus is verified."""
    options = {"input": str(folder / pattern), "output": str(output), "embedder": "none", "imgsz": 64}
    summary = segment_corpus(segment_options(options))
    report = verify_corpus(str(output))
    assert report.ok, report.problems
    rows = Corpus.open(str(output)).images().to_pylist()
    images = {row["image_id"]: row for row in rows}
    assert len(images) == len(rows) == summary["images"]
    assert sum(summary["failures"].values()) == summary["failed"]
    return summary, images


def check(images: Mapping[str, dict[str, Any]], expected: Mapping[str, Any]) -> None:
    """All differences between rows and the table at once."""
    wrong = {}
    for image_id, outcome in expected.items():
        row = images.get(image_id)
        found = row and (row["error_kind"] or (row["width"], row["height"]))
        wanted = outcome.kind if isinstance(outcome, Failed) else outcome.pixels.shape[1::-1]
        if found != wanted:
            wrong[image_id] = f"{found}, not {wanted}: {row and row['error_message']}"
    assert not wrong
    assert set(images) == set(expected)


def test_the_zoo_is_large_and_its_animals_have_names_of_their_own():
    cases = [*IMAGES, *TARS, *PARQUETS, *MANIFESTS, *REFUSED]
    assert len(cases) >= 370
    for room in (IMAGES, TARS, PARQUETS, MANIFESTS, REFUSED):
        assert len(room) == len({case.name for case in room})


@pytest.mark.parametrize("case", [case for case in IMAGES if not isinstance(case.outcome, Left)], ids=lambda c: c.name)
def test_decoding_ends_as_the_table_says(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow remarks on broken TIFF directories and EXIF blocks
        if isinstance(case.outcome, Whole):
            pixels = decode_image(case.data)
            assert pixels.shape == case.outcome.pixels.shape
            assert np.abs(pixels.astype(int) - case.outcome.pixels).mean() <= case.outcome.mean
        else:
            with pytest.raises(ImageError) as failed:
                decode_image(case.data)
            assert failed.value.kind == case.outcome.kind
            assert failed.value.message and "\n" not in failed.value.message


@pytest.mark.timeout(300)
def test_images_in_a_folder(local_ray, tmp_path):
    write(tmp_path / "zoo", IMAGES)
    summary, images = segmented(tmp_path / "zoo", "", tmp_path / "corpus")
    check(images, {case.name: case.outcome for case in IMAGES if not isinstance(case.outcome, Left)})
    assert summary["masks"] > 50
    for case in IMAGES:
        if not isinstance(case.outcome, Left):
            assert read_image_bytes(images[case.name]["uri"]) == case.data


@pytest.mark.timeout(300)
def test_tar_shards(local_ray, tmp_path, caplog):
    write(tmp_path / "zoo", TARS)
    with caplog.at_level("INFO", "fastsam_batch.pipeline"):
        _, images = segmented(tmp_path / "zoo", "", tmp_path / "corpus")
    for stage in ("fetch", "SegmentUnits", "commit"):
        assert f"MapBatches({stage})" in caplog.text  # what --verbose shows at the end
    expected = {f"{case.name}/{member}": outcome for case in TARS for member, outcome in case.outcome.items()}
    check(images, expected)
    # Nothing is ever unpacked to where a member's name points.
    assert {path.name for path in tmp_path.iterdir()} == {"zoo", "corpus"}
    assert {path.name for path in (tmp_path / "zoo").iterdir()} == {case.name for case in TARS}


@pytest.fixture(scope="module")
def models():
    return load_models({"path": "builtin", "imgsz": 64}, None, "cpu", 1)


def processed(source: str, models) -> dict[str, dict[str, Any]]:
    """Images by id of all units, planned, read and segmented as the job does, without Ray."""
    opened = open_source(source)
    units = [unit for row in opened.plan(Planned(), 1000, None) for unit in opened.read(row, ())]
    rows = [row for unit in units for row in process_unit(unit, *models, UnitOptions()).images.to_pylist()]
    images = {row["image_id"]: row for row in rows}
    assert len(images) == len(rows)
    return images


def test_parquet_files(models, tmp_path):
    write(tmp_path, [*PARQUETS, Case("photo.jpg", JPEG, None)])
    images = processed(str(tmp_path / "*.parquet"), models)
    check(images, {image_id: outcome for case in PARQUETS for image_id, outcome in case.outcome.items()})


def test_manifests(models, tmp_path):
    beside = {"photo.jpg": JPEG, 'photo, with "signs" %20.jpg': pil("JPEG"), "password.txt": b"secret"}
    write(tmp_path, [*MANIFESTS, *(Case(name, data, None) for name, data in beside.items())])
    images = processed(str(tmp_path / "*.[cj]s*"), models)
    check(images, {image_id: outcome for case in MANIFESTS for image_id, outcome in case.outcome.items()})
    assert not any("secret" in (row["error_message"] or "") for row in images.values())


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_cannot_be_planned_is_refused_in_a_sentence(tmp_path, case):
    write(tmp_path, [case])
    assert isinstance(case.outcome, Refused)
    with pytest.raises(InputError, match=re.escape(case.outcome.message)) as refused:
        list(open_source(str(tmp_path / case.name)).plan(Planned(), 128, None))
    assert case.name in str(refused.value) and "\n" not in str(refused.value)
