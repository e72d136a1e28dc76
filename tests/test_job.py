"""The main job from end to end on a real Ray: every input, resume, refusals."""

from __future__ import annotations

import io
import json
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_runs import NAMES, job, rows, run
from photographs import photographs, write_photographs
from PIL import Image

from fastsam_batch.cli import main
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.errors import InputError


def embeddings(corpus_uri):
    masks = Corpus.open(str(corpus_uri)).masks().to_pylist()
    return {
        (os.path.basename(row["image_id"]), row["mask_index"]): np.array(row["embedding"], np.float32)
        for row in masks
        if row["embedding"] is not None
    }


@pytest.fixture(scope="module")
def undisturbed(local_ray, photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("corpus")
    summary = run(photos, output, unit_size=1)
    assert summary["images"] == len(NAMES) and summary["units"] == len(NAMES) and summary["failed"] == 0
    return output, summary


def test_summary_and_corpus(undisturbed):
    output, summary = undisturbed
    report = verify_corpus(str(output))
    assert report.ok, report.problems
    assert set(summary) >= {
        "images", "failed", "masks", "units", "skipped_units", "seconds", "images_per_second", "failures", "stages",
    }  # fmt: skip
    assert summary["masks"] == Corpus.open(str(output)).masks().num_rows > 2 * len(NAMES)
    assert {"decode", "detect", "masks", "crops", "embed", "commit"} <= set(summary["stages"])
    assert not (output / "attempts").exists() or not list((output / "attempts").iterdir())


def make_tar_gz(photos, folder):
    with tarfile.open(folder / "shard-00000.tar.gz", "w:gz") as tar:
        for file in sorted(photos.iterdir()):
            tar.add(file, file.name)
            label = io.BytesIO(b'{"label": 1}')
            info = tarfile.TarInfo(file.stem + ".json")
            info.size = len(label.getvalue())
            tar.addfile(info, label)
    return folder


def make_parquet(photos, folder):
    files = sorted(photos.iterdir())
    table = pa.table({"image_id": [f"id/{file.name}" for file in files], "uri": [str(file) for file in files]})
    pq.write_table(table, folder / "images.parquet", row_group_size=3)
    return folder / "images.parquet"


def make_jsonl(photos, folder):
    lines = [json.dumps({"uri": str(path), "image_id": path.name}) for path in sorted(photos.iterdir())]
    (folder / "list.jsonl").write_text("\n".join(lines))
    return folder / "list.jsonl"


# Plain tars, Parquet with bytes and CSV go through the same graph in the zoo and in test_trust.py.
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_tar_gz, id="folder of tar.gz"),
        pytest.param(make_parquet, id="parquet uri"),
        pytest.param(make_jsonl, id="jsonl"),
    ],
)
def test_every_input_gives_the_same_masks(undisturbed, photos, tmp_path, make):
    (tmp_path / "input").mkdir()
    source = make(photos, tmp_path / "input")
    summary = run(source, tmp_path / "corpus", unit_size=3)
    assert (summary["images"], summary["units"], summary["failed"]) == (len(NAMES), 2, 0)
    assert rows(tmp_path / "corpus") == rows(undisturbed[0])
    expected = embeddings(undisturbed[0])
    for key, vector in embeddings(tmp_path / "corpus").items():
        assert float(vector @ expected[key]) > 0.999


def test_a_rerun_does_nothing_and_new_images_are_added(undisturbed, photos, tmp_path):
    folder = tmp_path / "photos"
    write_photographs(folder, NAMES[:2])
    assert run(folder, tmp_path / "corpus")["units"] == 1
    again = run(folder, tmp_path / "corpus")
    assert (again["units"], again["skipped_units"], again["images"]) == (0, 1, 0)
    write_photographs(folder, NAMES)
    more = run(folder, tmp_path / "corpus")
    assert (more["units"], more["skipped_units"], more["images"]) == (1, 1, len(NAMES) - 2)
    assert rows(tmp_path / "corpus") == rows(undisturbed[0])
    assert verify_corpus(str(tmp_path / "corpus")).ok


def test_limit_then_the_rest(undisturbed, photos, tmp_path):
    assert run(photos, tmp_path / "corpus", limit=1)["images"] == 1
    assert run(photos, tmp_path / "corpus", limit=1)["images"] == 0
    assert run(photos, tmp_path / "corpus")["images"] == len(NAMES) - 1
    assert rows(tmp_path / "corpus") == rows(undisturbed[0])
    assert run(photos, tmp_path / "corpus", limit=1)["images"] == 0
    next((tmp_path / "corpus" / "receipts").iterdir()).unlink()
    with pytest.raises(InputError, match=f"--limit 1: a run before has planned {len(NAMES)} images of this corpus"):
        run(photos, tmp_path / "corpus", limit=1)


def test_without_embedder(photos, tmp_path, undisturbed):
    run(photos, tmp_path / "corpus", embedder="none")
    assert verify_corpus(str(tmp_path / "corpus")).ok
    assert rows(tmp_path / "corpus") == rows(undisturbed[0])
    assert embeddings(tmp_path / "corpus") == {}


def finish(process, timeout=180):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conf", "0.9"], "--conf was 0.1, is 0.9"),
        (["--conf", "7"], "--conf 7.0: give a number above 0 and below 1"),
        (["--actors", "4:2"], "--actors 4:2: give a number of 1 or more, or two as MIN:MAX with MIN <= MAX"),
        (["--actors", "0"], "--actors 0: give a number of 1 or more"),
        (["--actors", "2:"], "--actors 2:: give a number of 1 or more"),
        (["--segmenter", "none.pt"], "none.pt: no such file"),
        (["--embedder", "nothing"], "--embedder nothing"),
        (["--device", "cuda"], "no GPU"),
    ],
)
def test_bad_arguments_are_one_sentence_and_exit_2(undisturbed, photos, arguments, message, capsys):
    output, _ = undisturbed
    if arguments[0] == "--device":
        output = output.parent / "fresh"
    code = main(["segment", "--input", str(photos), "--output", str(output), *arguments])
    out, err = capsys.readouterr()
    assert code == 2, err
    assert message in err and "Traceback" not in err
    assert out == ""
    if arguments[0] == "--device":
        assert not (output / "corpus.json").exists() and not list(output.glob("plan/*"))  # other options may follow


def odd_images(folder):
    """Files by name with the kind of failure each must end with, None for those that are images."""
    folder.mkdir()
    photograph = Image.fromarray(photographs()["coffee"])
    whole = io.BytesIO()
    photograph.save(whole, "JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to see it upright
    bomb = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(bomb, "PNG")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (folder / "text.png").write_text("this is not an image")
    (folder / "bomb.png").write_bytes(bomb.getvalue())
    (folder / "jpeg inside.png").write_bytes(whole.getvalue())
    photograph.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257).save(folder / "sixteen bit.png")
    transparent = photograph.convert("P")
    transparent.info["transparency"] = 0
    transparent.save(folder / "palette.png", transparency=0)
    photograph.convert("L").save(folder / "grey.jpg")
    photograph.save(folder / "animated.gif", save_all=True, append_images=[photograph.rotate(90)])
    photograph.save(folder / "rotated.jpg", exif=exif)
    Image.new("RGB", (1, 1), "red").save(folder / "one pixel.png")
    Image.new("RGB", (30_000, 2), "red").save(folder / "wide.png")
    return {"empty.jpg": "empty", "truncated.jpg": "truncated", "text.png": "not_an_image", "bomb.png": "too_large"}


def test_bad_images_are_rows_and_odd_ones_are_segmented(local_ray, tmp_path):
    failing = odd_images(tmp_path / "photos")
    summary = run(tmp_path / "photos", tmp_path / "corpus")
    assert (summary["images"], summary["failed"]) == (13, len(failing))
    assert summary["failures"] == dict.fromkeys(failing.values(), 1)
    images = {row["image_id"]: row for row in Corpus.open(str(tmp_path / "corpus")).images().to_pylist()}
    assert {name: row["error_kind"] for name, row in images.items() if row["status"] == "failed"} == failing
    assert (images["rotated.jpg"]["width"], images["rotated.jpg"]["height"]) == (400, 600)
    for name in ("cmyk.jpg", "sixteen bit.png", "palette.png", "grey.jpg", "animated.gif", "jpeg inside.png"):
        assert images[name]["n_masks"] > 0, name
    assert verify_corpus(str(tmp_path / "corpus")).ok


def test_an_input_that_cannot_be_planned_leaves_no_corpus_behind(forked_python, tmp_path):
    pq.write_table(pa.table({"picture": [b"x"]}), tmp_path / "images.parquet")
    code, _, err = finish(job(forked_python, "--input", tmp_path / "images.parquet", "--output", tmp_path / "corpus"))
    assert code == 2
    assert "images.parquet" in err and "picture" in err
    assert not (tmp_path / "corpus").exists()


def test_too_many_failures_exit_3(local_ray, tmp_path, capsys):
    folder = tmp_path / "photos"
    write_photographs(folder, ["coffee"])
    (folder / "bad.jpg").write_bytes(b"not a photograph")
    arguments = ["--input", folder, "--output", tmp_path / "corpus", "--max-failed-fraction", 0.4, "--embedder", "none"]
    code = main(["segment", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert code == 3, err
    assert json.loads(out.splitlines()[-1])["failures"] == {"not_an_image": 1}
    for allowed, expected in ((0.4, 3), (0.5, 0)):  # nothing is left to do, yet what was done is judged
        assert main(["segment", *map(str, arguments), "--max-failed-fraction", str(allowed)]) == expected
        out, err = capsys.readouterr()
        assert json.loads(out.splitlines()[-1])["failed"] == 0
        assert ("1 of 2 images of the corpus failed" in err) == (expected == 3)
