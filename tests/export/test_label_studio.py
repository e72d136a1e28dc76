"""Label Studio pre-labels: brushes through its SDK's decoder, polygons as its editor and converters read them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from corpus.made_corpus import MadeCorpus
from export.hard_masks import NAME
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco
from reference.polygons import count_holes, part_masks
from scipy import ndimage

from fastsam_batch.cli import job
from fastsam_batch.export.brush import brush_bytes
from fastsam_batch.export.images import ExportImage
from fastsam_batch.export.label_studio import label_config, write_label_studio
from fastsam_batch.masks.rle import Rle

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.booleans()).filter(np.any)


@pytest.fixture(scope="module")
def brush() -> Any:
    """Label Studio's own code for brush masks."""
    return pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is the oracle of this test")


def run(made: MadeCorpus, output: Path, *arguments: str) -> int:
    return job("export", ["--corpus", made.uri, "--format", "label-studio", "--output", str(output), *arguments])


def tasks_of(folder: Path) -> list[dict[str, Any]]:
    return [task for path in sorted(folder.glob("tasks-*.json")) for task in json.loads(path.read_text())]


def regions_by_mask(task: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    regions: dict[int, list[dict[str, Any]]] = {}
    for region in task["predictions"][0]["result"]:
        regions.setdefault(region["meta"]["mask_index"], []).append(region)
    return regions


def polygons_filled(regions: list[dict[str, Any]]) -> np.ndarray:
    """Percent to pixels, as Label Studio's converter does it, then COCO's filling."""
    height, width = regions[0]["original_height"], regions[0]["original_width"]
    rings = [
        [
            value * side / 100
            for point in region["value"]["points"]
            for value, side in zip(point, (width, height), strict=True)
        ]
        for region in regions
    ]
    return coco.decode(coco.merge(coco.frPyObjects(rings, height, width))).astype(bool)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_brush_masks_decode_to_the_pixel(brush, mask: np.ndarray) -> None:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = tuple(int(value) for value in coco.toBbox(encoded))
    code = brush_bytes(Rle(mask.shape, encoded["counts"].decode()), box).tolist()
    values = brush.decode_rle(code).reshape(*mask.shape, 4)
    assert (values == values[:, :, :1]).all()
    np.testing.assert_array_equal(values[:, :, 0], mask * 255)
    assert code == brush.mask2rle((mask * 255).astype(np.uint8))[: len(code)]


def test_runs_longer_than_a_block(brush) -> None:
    mask = np.zeros((150, 200), bool)
    mask[20:130] = True
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    code = brush_bytes(Rle(mask.shape, encoded["counts"].decode()), (0, 20, 200, 110))
    np.testing.assert_array_equal(brush.decode_rle(code.tolist()).reshape(150, 200, 4)[:, :, 3], mask * 255)


def test_brush_regions_of_a_corpus(hard: MadeCorpus, tmp_path: Path, brush) -> None:
    assert run(hard, tmp_path / "ls", "--shape", "rle", "--where", "image_id like 'hard/%'") == 0
    (task,) = (task for task in tasks_of(tmp_path / "ls") if task["data"]["image_id"] == NAME)
    regions = regions_by_mask(task)
    masks = {row["mask_index"]: coco.decode(row["rle"]) for row in hard.masks if row["image_id"] == NAME}
    assert regions.keys() == masks.keys()
    for index, (region,) in regions.items():
        assert (region["type"], region["from_name"], region["value"]["format"]) == ("brushlabels", "brush", "rle")
        flat = {**region["value"], "type": "brushlabels"}
        flat |= {key: region[key] for key in ("original_width", "original_height")}
        ((name, layer),) = brush.decode_from_annotation("brush", [flat]).items()
        assert name == "brush-object-0"
        np.testing.assert_array_equal(layer, masks[index] * 255)


def test_exact_polygons_fill_back_and_parts_are_regions_of_their_own(hard: MadeCorpus, tmp_path: Path) -> None:
    assert run(hard, tmp_path / "ls", "--tolerance", "0", "--min-piece", "0") == 0
    masks = {(row["image_id"], row["mask_index"]): coco.decode(row["rle"]).astype(bool) for row in hard.masks}
    seen, names = 0, set()
    for task in tasks_of(tmp_path / "ls"):
        assert task["data"]["image"].endswith(task["data"]["image_id"])
        for index, regions in regions_by_mask(task).items():
            np.testing.assert_array_equal(polygons_filled(regions), masks[task["data"]["image_id"], index])
            first, *others = (region["id"] for region in regions)
            assert others == [f"{first}-{number}" for number in range(2, len(regions) + 1)]
            names |= {first, *others}
            seen += len(regions)
            for region in regions:
                points = np.array(region["value"]["points"])
                assert points.min() >= 0 and points.max() <= 100 and len(points) >= 3
                assert region["value"]["polygonlabels"] == ["object"]
    assert len(names) == seen > len(masks)


def test_the_default_is_for_a_hand_to_edit(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    assert run(hard, tmp_path / "ls", "--max-loss", "0.1") == 0
    loss = json.loads(capsys.readouterr().out.splitlines()[-1])["loss"]
    masks = {(row["image_id"], row["mask_index"]): coco.decode(row["rle"]).astype(bool) for row in hard.masks}
    kinds, vertices = [], []
    for task in tasks_of(tmp_path / "ls"):
        areas = []
        for index, regions in regions_by_mask(task).items():
            mask = masks[task["data"]["image_id"], index]
            areas.append(mask.sum())
            kinds.append(regions[0]["type"])
            if kinds[-1] == "polygonlabels":
                found = polygons_filled(regions)
                assert (found & mask).sum() / (found | mask).sum() >= 0.9
                vertices += [len(region["value"]["points"]) for region in regions]
        assert areas == sorted(areas, reverse=True)  # small masks are drawn last, and can be clicked
    assert kinds.count("brushlabels") == loss["fallbacks"] > 0
    assert np.median(vertices) < 60


def test_specks_are_left_out_and_told(hard: MadeCorpus, tmp_path: Path, capsys) -> None:
    arguments = ["--tolerance", "0", "--where", "image_id like 'hard/%'", "--min-piece", "5"]
    assert run(hard, tmp_path / "ls", *arguments) == 0
    loss = json.loads(capsys.readouterr().out.splitlines()[-1])["loss"]
    (task,) = (task for task in tasks_of(tmp_path / "ls") if task["data"]["image_id"] == NAME)
    lost_parts = lost_holes = 0
    for index, regions in regions_by_mask(task).items():
        mask = coco.decode(
            next(row["rle"] for row in hard.masks if row["mask_index"] == index and row["image_id"] == NAME)
        )
        parts = part_masks(mask.astype(bool))
        largest = max(part.sum() for part in parts)
        kept = [part for part in parts if ndimage.binary_fill_holes(part).sum() >= 5 or part.sum() == largest]
        expected = np.any(kept, axis=0)
        labels, holes = ndimage.label(np.pad(~expected, 1, constant_values=True))
        small = [number for number in range(2, holes + 1) if (labels == number).sum() < 5]
        expected |= np.isin(labels[1:-1, 1:-1], small)
        np.testing.assert_array_equal(polygons_filled(regions), expected)
        lost_parts += len(parts) - len(kept)
        lost_holes += count_holes(mask.astype(bool)) - count_holes(expected)
    assert (loss["parts_lost"], loss["holes_lost"]) == (lost_parts, lost_holes)
    assert lost_parts > 0 and lost_holes > 0


def test_photographs_and_where_label_studio_finds_them(hard: MadeCorpus, tmp_path: Path) -> None:
    assert run(hard, tmp_path / "a", "--images", "copy") == 0
    urls = [task["data"]["image"] for task in tasks_of(tmp_path / "a")]
    assert "/data/local-files/?d=images/hard__%C3%BCber_photo.png" in urls
    assert all((tmp_path / "a" / unquote(url.partition("?d=")[2])).is_file() for url in urls)
    assert run(hard, tmp_path / "b", "--image-url", "https://photos.example/{image_id}") == 0
    assert "https://photos.example/hard/%C3%BCber%20photo.png" in [
        task["data"]["image"] for task in tasks_of(tmp_path / "b")
    ]


@pytest.mark.parametrize(
    ("uri", "unopened"),
    [
        ("s3://bucket/a.png", 0),
        ("https://host/a.png", 0),
        ("/photos/a.png", 1),
        ("demo:coffee", 1),
        ("s3://bucket/shard.tar#a.png", 1),
    ],
)
def test_addresses_that_label_studio_cannot_open_are_counted(tmp_path: Path, uri: str, unopened: int) -> None:
    image = ExportImage("a.png", uri, 4, 3, ())
    assert write_label_studio(str(tmp_path / "ls"), [image], ["object"], "v1")["unopened_images"] == unopened
    elsewhere = write_label_studio(str(tmp_path / "to"), [image], ["object"], "v1", image_url="https://x/{image_id}")
    assert elsewhere["unopened_images"] == 0


def test_an_export_says_that_label_studio_cannot_open_photographs(made: MadeCorpus, tmp_path: Path, capsys) -> None:
    assert run(made, tmp_path / "ls") == 0
    said = capsys.readouterr()
    assert said.err.startswith("note: Label Studio cannot open 6 of 6 photographs") and said.err.count("\n") == 1
    assert json.loads(said.out.splitlines()[-1])["unopened_images"] == 6
    assert run(made, tmp_path / "copied", "--images", "copy") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image-url", "x/{nothing}"], "{uri}, {image_id} or {file}"),
        (["--image-url", "{uri.x}"], "{uri}, {image_id} or {file}"),
        (["--image-url", "{uri[x]}"], "{uri}, {image_id} or {file}"),
        (["--image-url", "https://x/{image_id.__class__}"], "{uri}, {image_id} or {file}"),
        (["--image-url", "{image_id!r}"], "{uri}, {image_id} or {file}"),
        (["--image-url", "{uri:>999999999}"], "{uri}, {image_id} or {file}"),
        (["--image-url", "{}"], "{uri}, {image_id} or {file}"),
        (["--image-url", "{uri"], "{uri}, {image_id} or {file}"),
        (["--image-url", "{file}"], "--images copy"),
        (["--image-url", "https://photos.example/"], "names no photograph; put {uri}, {image_id} or {file} into it"),
    ],
)
def test_a_wrong_address_is_a_sentence(hard: MadeCorpus, tmp_path: Path, capsys, arguments, message) -> None:
    assert run(hard, tmp_path / "ls", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "ls").exists()


def test_the_configuration_names_the_labels() -> None:
    root = ElementTree.fromstring(label_config(["cup", 'a "b" & <c>']))
    for tag, name in (("PolygonLabels", "polygon"), ("BrushLabels", "brush")):
        control = root.find(tag)
        assert control is not None and control.get("name") == name and control.get("toName") == root[0].get("name")
        assert [label.get("value") for label in control] == ["cup", 'a "b" & <c>']


def test_many_tasks_go_into_several_files(tmp_path: Path) -> None:
    images = [ExportImage(f"{number}.png", f"/{number}.png", 4, 3, ()) for number in range(2001)]
    assert write_label_studio(str(tmp_path / "ls"), images, ["object"], "v1") == {
        "task_files": 3,
        "unopened_images": 2001,
    }
    tasks = tasks_of(tmp_path / "ls")
    assert [task["data"]["image_id"] for task in tasks] == [image.image_id for image in images]
    assert tasks[0]["predictions"] == [{"model_version": "v1", "score": 0.0, "result": []}]
