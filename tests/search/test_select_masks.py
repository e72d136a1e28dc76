"""The select job from end to end on a stored corpus: JSON, pictures, refusals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from corpus.made_corpus import DIM, MadeCorpus, commit, make_corpus, parquet, read
from PIL import Image
from pycocotools import mask as coco
from reference.search import best_masks
from reference.select import select_box, select_points

from fastsam_batch import Corpus
from fastsam_batch.cli import job
from fastsam_batch.errors import InputError
from fastsam_batch.search.prompts import Prompts, select_masks
from fastsam_batch.search.texts import text_vectors

IMAGE = "astronaut.png"


def encode(sentences: Sequence[str]) -> np.ndarray:
    vectors = [np.random.default_rng(list(sentence.encode())).normal(size=DIM) for sentence in sentences]
    return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


def dense(made: MadeCorpus, image_id: str = IMAGE) -> np.ndarray:
    return np.stack([coco.decode(row["rle"]) for row in made.masks if row["image_id"] == image_id]).astype(bool)


def inside(mask: np.ndarray) -> tuple[int, int]:
    """A pixel (x, y) of a mask."""
    y, x = np.argwhere(mask)[mask.sum() // 2].tolist()
    return x, y


def text_of(numbers: Sequence[float]) -> str:
    return ",".join(map(str, numbers))


def run(made: MadeCorpus, *arguments: str, image_id: str = IMAGE) -> int:
    return job("select", ["--corpus", made.uri, "--image", image_id, *arguments])


def test_json_holds_the_union_and_the_answers_in_order(made: MadeCorpus, tmp_path: Path, capsys) -> None:
    masks = dense(made)
    foreground, background = [inside(masks[0]), inside(masks[3])], [inside(masks[5])]
    boxes = [next(row["bbox"] for row in made.masks if row["mask_index"] == index) for index in (4, 2)]
    boxes = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h in boxes]
    output = tmp_path / "new" / "selected.json"

    code = run(
        made,
        *("--point", *map(text_of, foreground), "--background", *map(text_of, background)),
        *("--box", *map(text_of, boxes), "--output", str(output)),
    )

    answers = [select_box(masks, box) for box in boxes]
    union, added = select_points(masks, foreground, background, chosen=[mask for mask, _ in answers])
    document = json.loads(output.read_text())
    assert list(document) == ["image_id", "size", "mask_indices", "rle", "boxes"]
    assert document["image_id"] == IMAGE
    assert document["size"] == document["rle"]["size"] == list(union.shape)
    assert document["mask_indices"] == added
    np.testing.assert_array_equal(coco.decode(document["rle"]), union)
    assert document["boxes"] == [
        {"box": list(box), "mask_index": mask, "iou": iou} for box, (mask, iou) in zip(boxes, answers, strict=True)
    ]
    assert code == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["mask_indices"] == added and summary["area"] == union.sum()


def test_smallest_and_smooth(made: MadeCorpus, tmp_path: Path) -> None:
    masks = dense(made)
    point = inside(masks[0])
    _, smallest = select_points(masks, [point], [], smallest=True)
    for name, options in (("as-stored", ()), ("smooth", ("--smooth", "6"))):
        output = str(tmp_path / f"{name}.json")
        assert run(made, "--point", text_of(point), "--smallest", *options, "--output", output) == 0
    stored, smooth = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("as-stored", "smooth"))
    assert stored["mask_indices"] == smooth["mask_indices"] == smallest
    changed = coco.decode(stored["rle"]) != coco.decode(smooth["rle"])
    assert 0 < changed.sum() < 0.2 * coco.area(stored["rle"])


def test_json_to_an_object_store_and_nothing_in_the_box(made: MadeCorpus, tmp_path: Path) -> None:
    assert run(made, "--box", "0,0,1,1", "--output", "memory://selected/of.json") == 0
    document = json.loads(fsspec.filesystem("memory").cat_file("/selected/of.json"))
    assert document["boxes"] == [{"box": [0, 0, 1, 1], "mask_index": None, "iou": 0.0}]
    assert document["mask_indices"] == [] and coco.area(document["rle"]) == 0


def test_an_image_without_masks_selects_nothing(made: MadeCorpus, tmp_path: Path) -> None:
    output = tmp_path / "none.json"
    assert run(made, "--point", "5,5", "--output", str(output), image_id="camera.png") == 0
    assert json.loads(output.read_text())["mask_indices"] == []


def test_the_picture_lights_the_union_and_dims_the_rest(made: MadeCorpus, tmp_path: Path) -> None:
    masks = dense(made)
    point = inside(masks[0])
    output = tmp_path / "selected.png"
    assert run(made, "--point", text_of(point), "--box", "5,5,60,60", "--output", str(output)) == 0
    height, width = masks.shape[1:]
    shown = Image.open(output).convert("RGB")
    assert shown.size == (2 * width, 2 * height)
    photograph = Image.open(Path(made.images[0]["uri"])).convert("RGB").resize(shown.size, Image.Resampling.LANCZOS)
    same = np.abs(np.asarray(shown, int) - np.asarray(photograph, int)).max(2) <= 1
    box, _ = select_box(masks, (5, 5, 60, 60))
    union, _ = select_points(masks, [point], [], chosen=[box] if box is not None else [])
    union = np.kron(union, np.ones((2, 2), bool))
    assert same[union].mean() > 0.8  # but for its edge and the point's mark
    assert same[~union].mean() < 0.2
    x, y = 2 * point[0] + 1, 2 * point[1] + 1
    assert shown.getpixel((x, y)) == (255, 255, 255)  # the middle of the plus
    assert shown.getpixel((2 * 5 + 2, 60)) == (255, 204, 0)  # the box's left side


def test_texts_choose_masks_of_this_image_only(made: MadeCorpus) -> None:
    rows = [row for row in made.masks if row["image_id"] == "coffee.png"]
    prompts = Prompts(texts=["cup", "spoon"], top_k=2)
    found = select_masks(Corpus.open(made.uri).image("coffee.png"), prompts, encode)
    expected = []
    for text, vector in zip(prompts.texts, text_vectors(prompts.texts, encode), strict=True):
        expected += [(text, index, score) for score, _, index in best_masks(rows, vector, 2)]
    assert [(answer.text, answer.mask_index, answer.similarity) for answer in found.texts] == expected
    assert found.mask_indices == sorted({index for _, index, _ in expected})
    union = dense(made, "coffee.png")[found.mask_indices].any(0)
    np.testing.assert_array_equal(coco.decode(found.rle.to_coco()), union)


def test_a_text_below_min_score_adds_nothing(made: MadeCorpus) -> None:
    found = Corpus.open(made.uri).image(IMAGE).text("cat", min_score=0.99, encode=encode)
    assert (found.mask_indices, found.texts, found.area) == ([], [], 0)


def test_a_corpus_without_embeddings_takes_points_but_no_text(tmp_path: Path, capsys) -> None:
    made = make_corpus(str(tmp_path / "corpus"), tmp_path, dim=None)
    output = str(tmp_path / "selected.json")
    assert run(made, "--point", "50,50", "--output", output) == 0
    assert run(made, "--text", "a cat", "--output", output) == 2
    assert "no embeddings" in capsys.readouterr().err


def test_a_box_may_begin_left_of_the_image(made: MadeCorpus, tmp_path: Path) -> None:
    box = "-5.5,-.5,60,60"
    for name, arguments in (
        ("a.json", ["--box", "9,9,80,80", box]),
        ("b.json", ["--box", "9,9,80,80", f"--box={box}"]),
    ):
        assert run(made, *arguments, "--output", str(tmp_path / name)) == 0
    document = json.loads((tmp_path / "a.json").read_text())
    assert [each["box"] for each in document["boxes"]] == [[9, 9, 80, 80], [-5.5, -0.5, 60, 60]]
    assert document == json.loads((tmp_path / "b.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--point", "12"], "--point 12: write x,y"),
        (["--point", "1,2,3"], "write x,y"),
        (["--point", "a,b"], "write x,y"),
        (["--point", "nan,1"], "write x,y"),
        (["--background", "1;2", "--point", "1,1"], "--background 1;2: write x,y"),
        (["--box", "1,2,3"], "--box 1,2,3: write x1,y1,x2,y2"),
        (["--box", "9,9,5,5"], "is empty"),
        (["--box", "5000,0,6000,10"], "covers no pixel"),
        (["--point", "400,0"], "outside the image of 400 x 400"),
        (["--point=-1,5"], "outside the image"),
        (["--point", "-1,5"], "outside the image"),
        (["--point", "1,1", "--smooth", "-2"], "--smooth -2: give 0 or more"),
        (["--box", "0,0,512,512", "--smooth", "100000"], "--smooth 100000: leaves nothing"),
        ([], "nothing to select by; name a point, a box or a text"),
        (["--background", "1,1"], "nothing to select by"),
        (["--point", "1,1", "--image", "unknown.png"], "holds no image 'unknown.png'"),
        (["--point", "1,1", "--image", "broken.png"], r"failed \(not_an_image\)"),
        (["--point", "1,1", "--output", "selected.jpg"], r"end its name in \.json or \.png"),
        (["--point", "1,1", "--corpus", "/nowhere"], "is not a corpus"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(made_once: MadeCorpus, tmp_path: Path, capsys, arguments, reason):
    given = ["--corpus", made_once.uri, "--image", IMAGE]
    given += [] if "--output" in arguments else ["--output", str(tmp_path / "selected.json")]
    assert job("select", [*given, *arguments]) == 2
    said = capsys.readouterr()
    with pytest.raises(InputError, match=reason):
        raise InputError(said.err)
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and not said.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "reason"), [("gone", "is no longer at"), ("smaller", "has changed")])
def test_a_photograph_that_is_not_there_any_more(tmp_path: Path, capsys, change, reason) -> None:
    moved = make_corpus(str(tmp_path / "corpus-2"), tmp_path)
    photograph = Path(moved.images[0]["uri"])
    if change == "gone":
        photograph.unlink()
    else:
        Image.new("RGB", (50, 40)).save(photograph)
    assert run(moved, "--point", "5,5", "--output", str(tmp_path / "selected.png")) == 2
    assert reason in capsys.readouterr().err
    assert run(moved, "--point", "5,5", "--output", str(tmp_path / "selected.json")) == 0


def test_a_broken_mask_is_named(made: MadeCorpus, tmp_path: Path, capsys) -> None:
    unit = made.images[0]["unit_id"]
    table = pq.read_table(f"{made.uri}/masks/{unit}.parquet")
    rows = table.to_pylist()
    rows[0]["rle"]["counts"] = "zzz"
    commit(
        made.uri, unit, read(made.uri, f"images/{unit}.parquet"), parquet(type(table).from_pylist(rows, table.schema))
    )
    x, y, width, height = rows[0]["bbox"]
    box = text_of((x, y, x + width, y + height))
    assert run(made, "--box", box, "--output", str(tmp_path / "selected.json")) == 2
    assert f"a mask of {IMAGE!r}" in capsys.readouterr().err
