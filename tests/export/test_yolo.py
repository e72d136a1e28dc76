"""YOLO segmentation, read by Ultralytics' own loader, and trained on for a step."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from corpus.made_corpus import DIM, MadeCorpus, corpus_info, write, write_unit
from export.hard_masks import NAME
from PIL import Image
from pycocotools import mask as coco
from sources.made_inputs import write_tar

from fastsam_batch.cli import job
from fastsam_batch.export.file_names import FileNames
from fastsam_batch.export.folder import Folder
from fastsam_batch.export.images import ExportImage
from fastsam_batch.images import decode_image
from fastsam_batch.outage import WholeFile


def run(made: MadeCorpus, output: Path, *arguments: str) -> int:
    return job("export", ["--corpus", made.uri, "--format", "yolo", "--output", str(output), *arguments])


def summary_of(capsys) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def rows_by_file(made: MadeCorpus, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Masks by the path of their image's labels."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "images.jsonl").read_text().splitlines():
        entry = json.loads(line)
        rows[entry["labels"]] = [row for row in made.masks if row["image_id"] == entry["image_id"]]
    return rows


def filled(line: str, shape: tuple[int, int]) -> np.ndarray:
    """What Ultralytics' polygon2mask makes of a line at the image's own size."""
    from ultralytics.data.utils import polygon2mask

    points = np.array(line.split()[1:], np.float32).reshape(-1, 2) * np.array(shape[::-1], np.float32)
    return polygon2mask(shape, [points.reshape(-1)]).astype(bool)


def test_every_line_fills_back(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    assert run(hard, tmp_path / "yolo", "--val-fraction", "0.4") == 0
    summary = summary_of(capsys)
    rows = rows_by_file(hard, tmp_path / "yolo")
    ious = {}
    for path, masks in rows.items():
        lines = (tmp_path / "yolo" / path).read_text().splitlines()
        for line, row in zip(lines, masks, strict=True):
            expected = coco.decode(row["rle"]).astype(bool)
            found = filled(line, expected.shape)
            ious[row["image_id"], row["mask_index"]] = (found & expected).sum() / (found | expected).sum()
    assert len(ious) == len(hard.masks)
    # One part is exact, holes included; parts are joined by lines, which cost what the report says.
    assert all(iou == 1 for (image_id, _), iou in ious.items() if image_id != NAME)
    assert [ious[NAME, index] == 1 for index in range(6)] == [True, True, False, True, True, False]
    loss = summary["loss"]
    assert loss["mean_iou"] == pytest.approx(np.mean(list(ious.values())), abs=1e-6)
    assert loss["min_iou"] == round(ious[NAME, 5], 4)
    assert loss["parts_joined"] == loss["parts"] and loss["refused"] == 0 == loss["fallbacks"]
    assert summary["train"] + summary["val"] == len(rows) and summary["val"] > 0


def test_ultralytics_loads_the_masks(hard: MadeCorpus, tmp_path: Path) -> None:
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    folder = tmp_path / "yolo"
    assert run(hard, folder, "--val-fraction", "0") == 0
    data = check_det_dataset(str(folder / "data.yaml"))
    assert data["names"] == {0: "object"} and data["val"] == data["train"]
    dataset = YOLODataset(data["train"], data=data, task="segment", augment=False, imgsz=400, hyp=get_cfg())
    rows = rows_by_file(hard, folder)
    assert len(dataset) == len(rows)
    for index, path in enumerate(dataset.im_files):
        masks = rows[f"labels/train/{Path(path).stem}.txt"]
        label = dataset.get_image_and_label(index)
        assert len(label["cls"]) == len(masks)
        segments = label["instances"].segments
        height, width = label["ori_shape"]
        for row, segment in zip(masks, segments, strict=True):
            expected = coco.decode(row["rle"]).astype(bool)
            assert expected.shape == (height, width)
            if not label["instances"].normalized:
                segment = segment / np.array(label["resized_shape"][::-1])
            found = np.zeros(expected.shape, np.uint8)
            cv2.fillPoly(found, [(segment * np.array([width, height])).astype(np.int32)], 1)
            iou = (found & expected).sum() / (found | expected).sum()
            # Its resampling of rings adds points between pixels, which are cut off to whole ones.
            assert iou > (0.9 if row["area"] > 1000 and row["mask_index"] != 5 else 0.5)


@pytest.mark.parametrize(("fraction", "said"), [("0.0001", "no image fell to validation"), ("0", "")])
def test_a_share_too_small_for_any_validation_is_told(made: MadeCorpus, tmp_path: Path, capsys, fraction, said) -> None:
    assert run(made, tmp_path / "yolo", "--val-fraction", fraction) == 0
    noted = capsys.readouterr().err
    assert said in noted and noted.count("note: ") == bool(said)


def test_a_dataset_that_is_all_validation_can_be_trained_on(made: MadeCorpus, tmp_path: Path, capsys) -> None:
    from ultralytics.data.utils import check_det_dataset

    assert run(made, tmp_path / "yolo", "--val-fraction", "0.97") == 0
    summary = summary_of(capsys)
    assert (summary["train"], summary["val"]) == (0, sum(row["status"] == "ok" for row in made.images))
    data = check_det_dataset(str(tmp_path / "yolo" / "data.yaml"), autodownload=False)
    assert data["train"] == data["val"] and Path(data["train"]).is_dir()


@pytest.mark.slow
def test_ultralytics_trains_a_step(hard: MadeCorpus, tmp_path: Path) -> None:
    from ultralytics import YOLO

    assert run(hard, tmp_path / "yolo") == 0
    model = YOLO("yolov8n-seg.yaml", verbose=False)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    options = {"imgsz": 32, "batch": 8, "epochs": 1, "workers": 0, "device": "cpu", "amp": False, "mosaic": 0}
    quiet = {"plots": False, "val": False, "save": False, "verbose": False, "exist_ok": True}
    seen: list[float] = []
    model.add_callback("on_train_batch_end", lambda trainer: seen.append(float(trainer.tloss["seg_loss"])))
    model.train(data=str(tmp_path / "yolo" / "data.yaml"), project=str(tmp_path / "runs"), **options, **quiet)
    assert seen and all(np.isfinite(seen)) and seen[0] > 0
    after = model.trainer.model.state_dict()
    assert any(not bool((after[name].float() == before[name].float()).all()) for name in before if "weight" in name)


def test_masks_that_lose_too_much_are_left_out_and_told(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    arguments = ["--max-loss", "0.001", "--images", "none", "--val-fraction", "0"]
    assert run(hard, tmp_path / "yolo", *arguments) == 0
    summary = summary_of(capsys)
    loss = summary["loss"]
    assert loss["refused"] == 2 == summary["left_out"]["max_loss"]
    assert summary["masks"] == summary["labels"]["object"] == len(hard.masks) - 2
    assert [(case["mask_index"], case["outcome"]) for case in loss["worst"][:2]] == [(5, "refused"), (2, "refused")]
    lines = sum(len(path.read_text().splitlines()) for path in (tmp_path / "yolo" / "labels").rglob("*.txt"))
    assert lines == len(hard.masks) - 2
    assert not (tmp_path / "yolo" / "images").exists()


def test_no_masks_have_no_loss(made: MadeCorpus, tmp_path: Path, capsys) -> None:
    assert run(made, tmp_path / "yolo", "--where", "area < 0") == 0
    out = capsys.readouterr().out
    loss = json.loads(out.splitlines()[-1])["loss"]
    figures = ("mean_iou", "iou_p01", "iou_p50", "min_iou")
    assert loss["masks"] == 0 and {loss[name] for name in figures} == {None}
    assert "mean IoU" not in out


def test_labels_without_photographs_say_where_those_belong(made: MadeCorpus, tmp_path: Path, capsys) -> None:
    assert run(made, tmp_path / "yolo", "--images", "none", "--val-fraction", "0") == 0
    said = capsys.readouterr().err
    assert said.startswith("note: data.yaml names photographs that are not there") and said.count("\n") == 1
    assert "images/SPLIT/NAME" in said
    assert run(made, tmp_path / "copied", "--val-fraction", "0") == 0
    assert capsys.readouterr().err == ""


def test_photographs_are_copied_as_they_are(hard: MadeCorpus, tmp_path: Path) -> None:
    assert run(hard, tmp_path / "yolo") == 0
    uris = {row["image_id"]: row["uri"] for row in hard.images}
    for line in (tmp_path / "yolo" / "images.jsonl").read_text().splitlines():
        entry = json.loads(line)
        assert (tmp_path / "yolo" / entry["image"]).read_bytes() == Path(uris[entry["image_id"]]).read_bytes()
        assert Path(entry["image"]).stem == Path(entry["labels"]).stem


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_photographs_of_a_tar_cost_one_reading_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    images, total = {f"{number:03d}.png": noise(number) for number in range(60)}, 0
    shard = write_tar(tmp_path / f"shard{suffix}", images.items())
    made = MadeCorpus(str(tmp_path / "corpus"))
    write(made.uri, "corpus.json", json.dumps(corpus_info(DIM)).encode())
    common = {"n_masks": 0, "width": 40, "height": 30, "status": "ok", "error_kind": None, "error_message": None}
    for start in range(0, 60, 20):
        unit, names = f"shard-{start:04d}", list(images)[start : start + 20]
        rows = [{"image_id": f"shard.tar/{name}", "uri": f"{shard}#{name}", "unit_id": unit} for name in names]
        digests = [hashlib.sha256(images[name]).hexdigest() for name in names]
        write_unit(
            made.uri, unit, [row | common | {"sha256": each} for row, each in zip(rows, digests, strict=True)], []
        )

    def counted(file: WholeFile, count: int | None = -1) -> bytes:
        nonlocal total
        data = whole_read(file, count)
        total += len(data)
        return data

    whole_read = WholeFile.read
    monkeypatch.setattr(WholeFile, "read", counted)
    assert run(made, tmp_path / "yolo") == 0
    copied = {path.name: path.read_bytes() for path in (tmp_path / "yolo" / "images").rglob("*.png")}
    assert copied == {f"shard.tar__{name}": data for name, data in images.items()}
    assert total < 1.5 * shard.stat().st_size


def noise(seed: int) -> bytes:
    """A PNG, 40 x 30, that does not get smaller."""
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def test_a_photograph_that_is_gone(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    shutil.rmtree(tmp_path / "photographs")
    assert run(hard, tmp_path / "yolo") == 2
    assert "--images none" in capsys.readouterr().err


def test_a_photograph_that_was_replaced(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    path = tmp_path / "photographs" / NAME
    with Image.open(path) as before:
        Image.new("RGB", before.size, "red").save(path)
    assert run(hard, tmp_path / "yolo") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: the photograph of {NAME!r}") and said.count("\n") == 1
    assert "has changed since it was segmented" in said
    assert run(hard, tmp_path / "labels", "--images", "none") == 0


def test_a_folder_that_is_not_empty(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    assert run(hard, tmp_path) == 2
    assert "is not an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--val-fraction", "1"], ["--shape", "rle"]])
def test_wrong_options_are_a_sentence(hard: MadeCorpus, tmp_path: Path, capsys, arguments) -> None:
    assert run(hard, tmp_path / "yolo", *arguments) == 2
    assert capsys.readouterr().err.startswith("error: --")


def test_file_names_are_plain_and_never_the_same() -> None:
    names = FileNames()
    assert names.stem_of("shard.tar/a b/cup.jpg") == "shard.tar__a_b__cup"
    assert names.stem_of("cup.jpg") == "cup"
    second, third = names.stem_of("CUP.png"), names.stem_of("cup.webp")
    assert second.startswith("CUP-") and third.startswith("cup-") and len({second.lower(), third}) == 2
    assert names.stem_of("rows.parquet#12") == "rows.parquet_12"
    assert names.stem_of("./img/.hidden.jpg") == "img__.hidden"
    assert names.stem_of(".hidden") == "_hidden" and names.stem_of("../2.png") == "___2"  # YOLO reads no hidden files
    assert len(names.stem_of("x" * 300)) < 150
    assert FileNames().stem_of("CUP.png") == "CUP"


def test_a_name_that_another_would_have_got_is_not_given_again() -> None:
    first = FileNames()
    first.stem_of("a.jpg")
    hashed = first.stem_of("a.png")
    names = FileNames()
    assert len({names.stem_of(image_id) for image_id in (f"{hashed}.png", "a.jpg", "a.png")}) == 3


def test_names_of_every_script_stay_readable_and_fit_a_file_system():
    names = FileNames()
    assert names.stem_of("写真/東京 2026.jpg") == "写真__東京_2026"
    assert names.stem_of("photo é (हिन्दी)·✂.jpg") == "photo_é_हिन्दी_"
    assert names.stem_of("cafe\u0301.jpg") == "café" != names.stem_of("caf\u00e9.png")
    assert names.stem_of("straße") != names.stem_of("STRASSE")
    long = names.stem_of("写" * 300)
    assert long.startswith("写" * 40 + "-") and len(long.encode()) < 150


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tif", "gif"])
def test_a_copied_photograph_is_read_as_it_was_segmented(tmp_path: Path, ending: str) -> None:
    from ultralytics.utils.patches import imread

    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:10, :20] = 255
    exif = Image.Exif()
    exif[0x112] = 6  # shown with its left side up
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}", exif=exif)
    expected = decode_image((tmp_path / f"a.{ending}").read_bytes())
    image = ExportImage(f"a.{ending}", str(tmp_path / f"a.{ending}"), *expected.shape[1::-1], ())
    with Folder(tmp_path / "out") as folder:
        name = folder.copy_photograph(image, "a")
    assert name.endswith(("jpg", "png", "webp", "bmp"))  # what browsers show
    np.testing.assert_array_equal(imread(tmp_path / "out" / name)[..., ::-1], expected)
