"""The benchmarks run and measure what they say, on a photograph or two."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from fastsam_batch.corpus.read import Corpus

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Benchmarks import one another as scripts do; the number of torch's threads is put back."""
    import torch

    monkeypatch.syspath_prepend(str(FOLDER))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_stage_profile_does_the_same_work_on_both_sides(tmp_path):
    import stages

    options = argparse.Namespace(images=2, large_images=1, long_side=None, crop="both", masks=100, rounds=1)
    found = stages.profile("builtin", options, (1e10, 1e11))
    assert found["masks_per_image"] == found["reference_masks_per_image"] > 0
    for side in ("reference_ms", "our_ms"):
        assert all(row[side] > 0 for row in found["stages"].values())
    for stage, row in found["stages"].items():
        assert (row["floor_ms"] > 0) == (stage != "other")
    table = stages.text_table(found)
    assert len(table.splitlines()) == 2 + len(stages.STAGES) + 1
    stages.plot([found, found], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_made_outputs_hold_as_many_masks_as_were_asked_for():
    import made_models

    from fastsam_batch.models.segmenter import keep_best

    predictions, prototypes = made_models.made_output((480, 640), 1024, 100)
    assert predictions.shape == (1, 37, (96 * 128) + (48 * 64) + (24 * 32)) and prototypes.shape == (1, 32, 192, 256)
    assert int((predictions[0, 4] > 0.4).sum()) == 100 * made_models.CANDIDATES
    assert len(keep_best(predictions[0], conf=0.4, iou=0.9, max_masks=300)) == 100


def test_pooled_quality_measures_every_way_on_the_same_masks(tmp_path):
    import pooled_quality
    from photographs import write_photographs
    from reference.masks import encode_dense

    from fastsam_batch.masks.rle import Rle
    from fastsam_batch.models.embedder import Embedder
    from training.photographs import Photograph, Thing

    (path,) = write_photographs(tmp_path, ["coffee"])  # 600 x 400
    things = []
    for name, (left, top, width, height) in {"cup": (100, 50, 400, 300), "spoon": (20, 20, 40, 40)}.items():
        mask = np.zeros((400, 600), np.bool_)
        mask[top : top + height, left : left + width] = True
        counts = encode_dense([mask])[0]["counts"].decode()
        things.append(Thing(name, Rle((400, 600), counts), (left, top, width, height), width * height))
    photograph = Photograph("test", path, things=tuple(things))
    found = pooled_quality.measure(Embedder("builtin", mode="pool"), [photograph], ["person", "cup", "spoon"])
    assert [way["pooled"] for way in found.values()] == [0, 0, 0, 0, 1]  # the spoon is too small, the image sparse
    assert all(way["masks"] == 2 and 0 < way["map"] <= 1 and way["seconds"] > 0 for way in found.values())


def test_the_gpu_script_can_be_tried_without_a_gpu(monkeypatch, capsys):
    import gpu

    few = ["--images", "1", "--loop-images", "1", "--rounds", "1", "--batch-size", "2", "--long-side", "240"]
    tried = [
        "--device",
        "cpu",
        "--sizes",
        "builtin",
        "--modes",
        "pool",
        "--precisions",
        "float32",
        "--without-ray",
        *few,
    ]
    monkeypatch.setattr("sys.argv", ["gpu.py", *tried])
    gpu.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    (run,) = summary["runs"]
    assert (run["segmenter"], run["mode"], run["precision"]) == ("builtin", "pool", "float32")
    assert run["masks_per_image"] == run["loop_masks_per_image"] > 0
    assert run["our_images_per_second"] > 0 and run["loop_images_per_second"] > 0
    assert summary["tensorrt"] == [] and summary["ray"] == {"skipped": "--without-ray"}


@pytest.mark.parametrize("name", ["scan_rate", "index_recall"])
def test_a_made_corpus_can_be_searched(name: str, monkeypatch, capsys, tmp_path):
    options = {
        "scan_rate": ["--side", "scan", "--queries", "1", "9"],
        "index_recall": ["--clusters", "5", "--queries", "6"],
    }
    argv = [f"{name}.py", "--corpus", str(tmp_path / "made"), "--rows", "20000", "--dim", "16", *options[name]]
    monkeypatch.setattr("sys.argv", argv)
    importlib.import_module(name).main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    if name == "scan_rate":
        assert set(summary["seconds"]) == {"1", "9"} and all(seconds > 0 for seconds in summary["seconds"].values())
        assert Corpus.open(tmp_path / "made").masks(["mask_index"]).num_rows == 20000
    else:
        assert all(found["recall"] > 0.9 and found["short"] == 0 for found in summary["results"].values())


def test_a_made_corpus_of_another_size_takes_the_place_of_the_old(tmp_path):
    from made_vectors import uniform, write_corpus

    def rows_of(rows: int, unit_rows: int) -> int:
        write_corpus(tmp_path, rows, 8, unit_rows, lambda count, number: uniform(count, 8, number), "uniform")
        corpus = Corpus.open(tmp_path)
        masks = corpus.masks(["mask_index"]).num_rows
        assert sum(receipt["masks"] for receipt in corpus.receipts().values()) == masks
        return masks

    assert rows_of(4000, 1000) == 4000
    derived = [tmp_path / "index" / "index.json", tmp_path / "truth" / "6.json"]
    for path in derived:
        path.parent.mkdir()
        path.write_text("{}")
    assert rows_of(4000, 1000) == 4000 and all(path.is_file() for path in derived)
    assert rows_of(2000, 1000) == 2000 and not any(path.exists() for path in derived)
    assert rows_of(2000, 2000) == 2000


def test_a_made_corpus_counts_when_it_is_whole(tmp_path):
    """Interrupted on the way to another size, it is not taken for the one that was there before."""
    from made_vectors import uniform, write_corpus

    def vectors(count: int, number: int):
        if number == 1 and interrupted:
            raise KeyboardInterrupt
        return uniform(count, 8, number)

    interrupted = False
    write_corpus(tmp_path, 300, 8, 100, vectors, "uniform")
    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path, 400, 8, 200, vectors, "uniform")
    interrupted = False
    write_corpus(tmp_path, 300, 8, 100, vectors, "uniform")
    assert Corpus.open(tmp_path).masks(["mask_index"]).num_rows == 300


def test_no_corpus_is_made_over_what_no_benchmark_made(tmp_path):
    from made_vectors import uniform, write_corpus

    (tmp_path / "images").mkdir()
    with pytest.raises(SystemExit, match="name another folder"):
        write_corpus(tmp_path, 10, 8, 10, lambda count, number: uniform(count, 8, number), "uniform")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_recall_is_measured_against_the_corpus_that_is_there(monkeypatch, capsys, tmp_path):
    import index_recall

    for seed in ("0", "1"):
        options = ["--corpus", str(tmp_path / "made"), "--rows", "8000", "--dim", "16", "--clusters", "5"]
        monkeypatch.setattr("sys.argv", ["index_recall.py", *options, "--queries", "6", "--seed", seed])
        index_recall.main()
        summary = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert summary["results"]["all"]["recall"] > 0.9


def test_exports_are_measured_on_the_corpus_that_was_asked_for(monkeypatch, capsys, tmp_path):
    import export_rate
    from machine import short_name

    def run(*more: str) -> dict:
        small = ["--masks", "40", "--per-image", "10", "--image-hw", "90", "120", "--pool", "3"]
        monkeypatch.setattr("sys.argv", ["export_rate.py", *small, *more])
        export_rate.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    corpus, output = ["--corpus", str(tmp_path / "made")], ["--output", str(tmp_path)]
    found = run(*corpus, *output, "--formats", "coco rle")
    assert found["formats"]["coco rle"]["masks"] == found["masks"] == 40
    assert Corpus.open(tmp_path / "made").masks(["mask_index"]).num_rows == 40
    kept = tmp_path / f"export_rate-{short_name()}.json"
    assert json.loads(kept.read_text()) == found

    assert run(*corpus, *output, "--formats") == found
    for another in (["--masks", "20"], ["--per-image", "20"], ["--image-hw", "90", "121"], ["--seed", "1"]):
        for place in (corpus, output):
            with pytest.raises(SystemExit, match=f"{another[0][2:].replace('-', '_')}.*name another"):
                run(*place, *another, "--formats")
    assert json.loads(kept.read_text()) == found
    (tmp_path / "made.json").unlink()
    with pytest.raises(SystemExit, match="remove it"):
        run(*corpus, "--formats")


def test_people_s_regions_are_those_of_every_person_and_no_crumbs(monkeypatch, capsys, tmp_path):
    import human_regions
    from photographs import write_photographs
    from scipy.io import savemat

    (tmp_path / "images").mkdir()
    (tmp_path / "groundTruth").mkdir()
    (path,) = write_photographs(tmp_path / "images", ["coffee"])
    path.rename(tmp_path / "images" / "coffee.jpg")  # decoded by its content
    halves = np.ones((400, 600), np.uint16)
    halves[:, 300:] = 2
    crumb = np.full((400, 600), 7, np.uint16)
    crumb[:5, :5] = 9
    people = np.empty((1, 2), object)
    people[0, 0], people[0, 1] = {"Segmentation": halves}, {"Segmentation": crumb}
    savemat(tmp_path / "groundTruth" / "coffee.mat", {"groundTruth": people})
    regions = human_regions.drawn_regions(tmp_path / "groundTruth" / "coffee.mat")
    assert [int(human_regions.coco_mask.area(region)) for region in regions] == [120000, 120000, 240000 - 25]

    monkeypatch.setattr("sys.argv", ["human_regions.py", "--data", str(tmp_path), "--conf", "0.01", "1"])
    human_regions.main()
    many, none = json.loads(capsys.readouterr().out)["found"]
    assert many["masks_an_image"] > 5 and 0 < many["covering"] <= 1
    assert none["masks_an_image"] == none["recall"] == none["covering"] == 0
