"""COCO results, SA-1B and CVAT: each read by an independent reader of the format."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
from corpus.made_corpus import MadeCorpus, write_unit
from export.hard_masks import NAME
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fastsam_batch.cli import job
from fastsam_batch.errors import InputError
from fastsam_batch.export.coco_results import GroundTruth, write_coco_results
from fastsam_batch.export.cvat import _xml
from fastsam_batch.export.ids import image_number, mask_number
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.export.label_studio import label_config
from fastsam_batch.export.run import FORMATS
from fastsam_batch.masks.rle import Rle


def run(made: MadeCorpus, format_: str, output: Path, *arguments: str) -> int:
    return job("export", ["--corpus", made.uri, "--format", format_, "--output", str(output), *arguments])


def masks_of(made: MadeCorpus) -> dict[tuple[str, int], np.ndarray]:
    return {(row["image_id"], row["mask_index"]): coco_mask.decode(row["rle"]).astype(bool) for row in made.masks}


def ground_truth(made: MadeCorpus, path: Path) -> Path:
    """The corpus's own masks with ids of another hand, images named by the last part of their image_id."""
    assert run(made, "coco", path) == 0
    document = json.loads(path.read_text())
    number_of = {image["id"]: number for number, image in enumerate(document["images"], start=501)}
    for image in document["images"]:
        image |= {"id": number_of[image["id"]], "file_name": image["file_name"].rpartition("/")[2]}
    for annotation in document["annotations"]:
        annotation["image_id"] = number_of[annotation["image_id"]]
    path.write_text(json.dumps(document))
    return path


def test_results_against_their_own_ground_truth_are_perfect(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    truth = ground_truth(hard, tmp_path / "truth.json")
    assert run(hard, "coco-results", tmp_path / "results.json", "--ground-truth", str(truth)) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["images_not_in_ground_truth"] == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == len(hard.masks)
    assert all(result.keys() == {"image_id", "category_id", "segmentation", "score"} for result in results)
    coco = COCO(str(truth))
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "segm")
    evaluation.params.useCats = 0
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[8] == 1.0  # AR@100: every mask found at every IoU


def test_categories_and_counts_are_those_of_a_ground_truth(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    """Masks without classes take an id that the truth has, or COCO's own evaluation would leave them out."""
    truth = ground_truth(hard, tmp_path / "truth.json")
    document = json.loads(truth.read_text())
    document["categories"] = [{"id": 7, "name": "cup"}, {"id": 3, "name": "person"}]
    gone = document["images"].pop()
    document["annotations"] = [each for each in document["annotations"] if each["image_id"] != gone["id"]]
    truth.write_text(json.dumps(document))
    capsys.readouterr()
    assert run(hard, "coco-results", tmp_path / "results.json", "--ground-truth", str(truth)) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    results = json.loads((tmp_path / "results.json").read_text())
    assert {result["category_id"] for result in results} == {3}
    assert summary["masks"] == summary["labels"]["object"] == len(results) < len(hard.masks)
    assert summary["left_out"] == {"not_in_ground_truth": len(hard.masks) - len(results)}
    with pytest.raises(InputError, match="has no category 'mug'; it has cup, person"):
        write_coco_results(str(tmp_path / "x.json"), [], ["mug"], GroundTruth({}, {"cup": 7, "person": 3}), "score")


def test_results_without_a_ground_truth_have_the_ids_of_the_coco_format(hard: MadeCorpus, tmp_path: Path) -> None:
    assert run(hard, "coco", tmp_path / "truth.json") == run(hard, "coco-results", tmp_path / "results.json") == 0
    found = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "results.json"))
    assert len(found.anns) == len(hard.masks)


def test_a_ground_truth_of_other_photographs(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"images": [{"id": 1, "file_name": "other.jpg"}]}))
    assert run(hard, "coco-results", tmp_path / "results.json", "--ground-truth", str(truth)) == 2
    assert "none of the corpus's images" in capsys.readouterr().err
    truth.write_text("[]")
    assert run(hard, "coco-results", tmp_path / "results.json", "--ground-truth", str(truth)) == 2
    assert "is not a COCO file" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


def test_ids_that_are_text_stay_text(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    truth = ground_truth(hard, tmp_path / "truth.json")
    document = json.loads(truth.read_text())
    for image in document["images"]:
        image["id"] = f"00{image['id']}"
    truth.write_text(json.dumps(document))
    assert run(hard, "coco-results", tmp_path / "results.json", "--ground-truth", str(truth)) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert {result["image_id"] for result in results} <= {image["id"] for image in document["images"]}


def test_a_ground_truth_of_another_size_is_refused(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    """pycocotools would find no mask on it."""
    truth = ground_truth(hard, tmp_path / "truth.json")
    document = json.loads(truth.read_text())
    document["images"][0]["width"] += 1
    truth.write_text(json.dumps(document))
    capsys.readouterr()
    assert run(hard, "coco-results", tmp_path / "results.json", "--ground-truth", str(truth)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "both must be of the same photograph" in said
    assert not (tmp_path / "results.json").exists()


def test_sa1b_as_its_readers_expect_it(hard: MadeCorpus, tmp_path: Path) -> None:
    assert run(hard, "sa1b", tmp_path / "sa", "--images", "copy") == 0
    masks, rows = masks_of(hard), {(row["image_id"], row["mask_index"]): row for row in hard.masks}
    ids = {mask_number(*key): key for key in masks}
    images = {image_number(row["image_id"]): row for row in hard.images}
    seen = 0
    documents = sorted((tmp_path / "sa").glob("*.json"))
    assert len(documents) == sum(row["status"] == "ok" for row in hard.images)
    for path in documents:
        document = json.loads(path.read_text())
        image, row = document["image"], images[document["image"]["image_id"]]
        assert (image["width"], image["height"]) == (row["width"], row["height"])
        assert (path.parent / image["file_name"]).read_bytes() == Path(row["uri"]).read_bytes()
        assert (path.parent / image["file_name"]).stem == path.stem
        for annotation in document["annotations"]:
            key = ids[annotation["id"]]
            np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]), masks[key])
            assert key[0] == row["image_id"] and annotation["area"] == rows[key]["area"]
            assert annotation["bbox"] == rows[key]["bbox"]
            assert annotation["predicted_iou"] == pytest.approx(rows[key]["score"], abs=1e-6)
            assert annotation["stability_score"] == pytest.approx(rows[key]["stability"], abs=1e-6)
            assert annotation["crop_box"] == [0, 0, row["width"], row["height"]]
            seen += 1
    assert seen == len(masks)


def test_cvat_masks_decode_to_the_pixel(hard: MadeCorpus, tmp_path: Path) -> None:
    cvat = pytest.importorskip("cvat_sdk.masks", reason="cvat-sdk is the oracle of this test")
    assert run(hard, "cvat", tmp_path / "masks.xml") == 0
    root = ElementTree.parse(tmp_path / "masks.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert [label.findtext("name") for label in root.iterfind("meta/task/labels/label")] == ["object"]
    masks = masks_of(hard)
    images = root.findall("image")
    assert [image.get("name") for image in images] == [row["image_id"] for row in hard.images if row["status"] == "ok"]
    # Where it knows no image of the name, CVAT takes the id for the number of a frame.
    assert [int(image.get("id", 0)) for image in images] == [image_number(str(image.get("name"))) for image in images]
    for image in images:
        width, height = int(image.get("width", 0)), int(image.get("height", 0))
        expected = [mask for (image_id, _), mask in masks.items() if image_id == image.get("name")]
        expected.sort(key=lambda mask: -mask.sum())
        found = image.findall("mask")
        assert [mask.get("z_order") for mask in found] == [str(number) for number in range(len(expected))]
        for mask, pixels in zip(found, expected, strict=True):
            left, top, wide, high = (int(mask.get(name, 0)) for name in ("left", "top", "width", "height"))
            runs = [int(run) for run in mask.get("rle", "").split(",")]
            points = [*runs, left, top, left + wide - 1, top + high - 1]
            np.testing.assert_array_equal(cvat.decode_mask(points, image_width=width, image_height=height), pixels)
            assert points == cvat.encode_mask(pixels)


def test_cvats_coco_zip_is_the_coco_format(hard: MadeCorpus, tmp_path: Path) -> None:
    assert run(hard, "cvat", tmp_path / "masks.zip") == run(hard, "cvat", tmp_path / "again.zip") == 0
    assert (tmp_path / "masks.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["annotations/instances_default.json"]
        archive.extractall(tmp_path)
    coco = COCO(str(tmp_path / "annotations" / "instances_default.json"))
    assert {image["file_name"] for image in coco.imgs.values()} >= {NAME, "coffee.png"}
    for key, pixels in masks_of(hard).items():
        np.testing.assert_array_equal(coco.annToMask(coco.anns[mask_number(*key)]), pixels)


@pytest.mark.parametrize(
    ("option", "formats"),
    [
        (["--images", "copy"], {"sa1b", "yolo", "label-studio"}),
        (["--image-url", "x/{image_id}"], {"label-studio"}),
        (["--ground-truth", "truth.json"], {"coco-results"}),
        (["--val-fraction", "0.2"], {"yolo"}),
    ],
)
def test_an_option_of_another_format_is_refused(made_once: MadeCorpus, tmp_path: Path, capsys, option, formats) -> None:
    for format_ in FORMATS.keys() - formats:
        assert run(made_once, format_, tmp_path / format_, *option) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and option[0] in said and all(name in said for name in formats)
        assert not (tmp_path / format_).exists()


def test_a_name_that_xml_cannot_hold(made: MadeCorpus, tmp_path: Path, capsys) -> None:
    rows = [row for row in made.images if row["unit_id"] == "unit-0001"]
    write_unit(made.uri, "unit-0001", [row | {"image_id": f"a\x0b{row['image_id']}"} for row in rows], [])
    assert run(made, "cvat", tmp_path / "masks.xml") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the image 'a\\x0bcoffee.png' holds the character") and said.count("\n") == 1
    assert not (tmp_path / "masks.xml").exists()
    for format_, output in (("cvat", "masks.zip"), ("coco", "coco.json"), ("sa1b", "sa"), ("label-studio", "studio")):
        assert run(made, format_, tmp_path / output) == 0
    assert run(made, "yolo", tmp_path / "yolo") == 0
    for document in [tmp_path / "coco.json", *(tmp_path / "sa").iterdir(), *(tmp_path / "studio").glob("*.json")]:
        json.loads(document.read_text())
    for line in (tmp_path / "yolo" / "images.jsonl").read_text().split("\n")[:-1]:
        json.loads(line)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
@example("a\rb\nc\td")
@example("<a href='b'>&\"c\"]]>")
def test_every_class_is_read_back_from_xml_or_refused(name: str) -> None:
    def read_back() -> list[str | None]:
        mask = ExportMask(0, (0, 0, 1, 1), 1, 1.0, 1.0, Rle((1, 1), "01"))
        document = ElementTree.fromstring("".join(_xml([ExportImage(name, "", 1, 1, (mask,))], [name])))
        config = ElementTree.fromstring(label_config([name]))
        named = [document.find("image").get("name"), document.find("image/mask").get("label")]
        return [
            *named,
            document.findtext("meta/task/labels/label/name"),
            config.find("PolygonLabels/Label").get("value"),
        ]

    try:
        found = read_back()
    except InputError:
        with pytest.raises(ElementTree.ParseError):
            ElementTree.fromstring(f"<a>{escape(name)}</a>")
    else:
        assert found == [name] * 4


def test_cvat_needs_an_ending(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    assert run(hard, "cvat", tmp_path / "masks.json") == 2
    assert ".xml (CVAT for images 1.1) or .zip (COCO 1.0)" in capsys.readouterr().err
