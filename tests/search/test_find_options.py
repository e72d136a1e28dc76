"""Alternatives, contrasts, examples, near-duplicates and masks an image, against the slow search."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from corpus.builtin_corpus import as_if_builtin
from corpus.made_corpus import DIM, MadeCorpus, write_unit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.search import answers, cosine

from fastsam_batch import Corpus, cli_search
from fastsam_batch.cli import main
from fastsam_batch.errors import InputError
from fastsam_batch.search import thin
from fastsam_batch.search.background import Background, background_texts
from fastsam_batch.search.find import find_masks
from fastsam_batch.search.likeness import mask_vectors, parse_mask
from fastsam_batch.search.texts import alternatives, text_vectors


def encode(sentences: Sequence[str]) -> np.ndarray:
    vectors = [np.random.default_rng(list(sentence.encode())).normal(size=DIM) for sentence in sentences]
    return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


def found(hits: pa.Table, text: str) -> list[tuple[float, str, int]]:
    rows = [row for row in hits.to_pylist() if row["text"] == text]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    return [(row["similarity"], row["image_id"], row["mask_index"]) for row in rows]


@pytest.fixture(scope="module")
def crowded(made_once: MadeCorpus, tmp_path_factory: pytest.TempPathFactory) -> MadeCorpus:
    """The made corpus with every mask five times over, hardly moved, so that duplicates abound."""
    uri = str(tmp_path_factory.mktemp("crowded") / "corpus")
    shutil.copytree(made_once.uri, uri)
    random = np.random.default_rng(3)
    masks = []
    for unit_id in sorted({image["unit_id"] for image in made_once.images}):
        images = [image for image in made_once.images if image["unit_id"] == unit_id]
        names = [image["image_id"] for image in images]
        of_unit = [row for row in made_once.masks if row["image_id"] in names]
        of_unit += [again(row, copy, random) for row in of_unit for copy in range(1, 5)]
        write_unit(uri, unit_id, images, of_unit)
        masks += of_unit
    return MadeCorpus(uri, masks, made_once.images)


def again(row: dict, copy: int, random: np.random.Generator) -> dict:
    vector = random.normal(size=DIM) * 0.2 + (0 if row["embedding"] is None else row["embedding"])
    vector = (vector / np.linalg.norm(vector)).astype(np.float16)
    return row | {"mask_index": row["mask_index"] + 10 * copy, "embedding": vector}


@given(
    top_k=st.sampled_from([1, 3, 8, 200]),
    contrasts=st.lists(st.sampled_from(["dog", "a house"]), unique=True),
    per_image=st.sampled_from([None, 1, 2]),
    distinct=st.sampled_from([None, 0.3, 0.9, 1.0]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_options_together(
    crowded: MadeCorpus, top_k: int, contrasts: list[str], per_image: int | None, distinct: float | None
) -> None:
    hits = find_masks(
        Corpus.open(crowded.uri),
        ["cat | cup", "tree"],
        top_k=top_k,
        contrasts=contrasts,
        per_image=per_image,
        distinct=distinct,
        encode=encode,
    )
    vectors = text_vectors(["cat", "cup", "tree", "dog", "a house"], encode)
    none_of = vectors[[["dog", "a house"].index(text) + 3 for text in contrasts]]
    options = {"none_of": none_of, "per_image": per_image, "distinct": distinct}
    assert found(hits, "cat | cup") == answers(crowded.masks, vectors[:2], top_k, **options)
    assert found(hits, "tree") == answers(crowded.masks, vectors[2:3], top_k, **options)


@pytest.fixture(scope="module")
def piled(made_once: MadeCorpus, tmp_path_factory: pytest.TempPathFactory) -> MadeCorpus:
    """The made corpus with the mask nearest to `along(0)` a hundred times over, exactly."""
    uri = str(tmp_path_factory.mktemp("piled") / "corpus")
    shutil.copytree(made_once.uri, uri)
    images = [image for image in made_once.images if image["unit_id"] == "unit-0000"]
    names = [image["image_id"] for image in images]
    rows = [row for row in made_once.masks if row["image_id"] in names]
    nearest = rows[0] | {"embedding": along(0)[0].astype(np.float16)}
    masks = [nearest | {"mask_index": 100 + copy} for copy in range(100)]
    write_unit(uri, "unit-0000", images, rows + masks)
    return MadeCorpus(uri, made_once.masks + masks, made_once.images)


def along(axis: int, count: int = 1) -> np.ndarray:
    """So many unit vectors along an axis."""
    return np.repeat(np.eye(DIM, dtype=np.float32)[axis : axis + 1], count, axis=0)


def test_near_duplicates_are_passed_over_where_scores_are_calibrated_too(piled: MadeCorpus) -> None:
    corpus = Corpus.open(piled.uri)
    options = {"top_k": 10, "distinct": 0.9, "encode": lambda texts: along(0, len(texts))}
    plain = find_masks(corpus, ["cat"], **options)
    calibrated = find_masks(corpus, ["cat"], background=Background(along(5, len(background_texts()))), **options)
    assert found(plain, "cat") == answers(piled.masks, along(0), 10, distinct=0.9)
    assert calibrated["calibrated"].null_count == 0
    assert found(calibrated, "cat") == found(plain, "cat")


@given(
    top_k=st.sampled_from([1, 5, 30]),
    per_image=st.sampled_from([None, 1, 2]),
    distinct=st.sampled_from([None, 0.5, 1.0]),
    min_calibrated=st.sampled_from([0.0, 0.3, 0.9]),
    candidates=st.sampled_from([1, 25, 1000]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_convincing_masks_behind_those_left_out(
    crowded: MadeCorpus,
    top_k: int,
    per_image: int | None,
    distinct: float | None,
    min_calibrated: float,
    candidates: int,
) -> None:
    query, background = along(0), Background(along(5, len(background_texts())))
    others = background.without(["cat"], query)

    def convinces(row: dict) -> bool:
        score = others.calibrate(np.float32([cosine(row, query[0])]), np.float32([row["embedding"]]))
        return bool(score[0] >= min_calibrated)

    options = {"top_k": top_k, "per_image": per_image, "distinct": distinct}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thin, "_CANDIDATES", candidates)
        hits = find_masks(
            Corpus.open(crowded.uri),
            ["cat"],
            encode=lambda texts: along(0, len(texts)),
            background=background,
            min_calibrated=min_calibrated,
            **options,
        )
    limit = max(4 * top_k, candidates)
    assert found(hits, "cat") == answers(crowded.masks, query, convinces=convinces, candidates=limit, **options)


def test_a_few_images_full_of_convincing_masks_hide_no_others(piled: MadeCorpus) -> None:
    asked = {"encode": lambda texts: along(0, len(texts)), "background": Background(along(5, len(background_texts())))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thin, "_CANDIDATES", 50)
        hits = find_masks(Corpus.open(piled.uri), ["cat"], top_k=3, per_image=1, min_calibrated=0.1, **asked)
    assert len(hits) == 3


def test_a_contrast_with_alternatives_is_several(made: MadeCorpus) -> None:
    corpus = Corpus.open(made.uri)
    for asked in ({"texts": ["cat"]}, {"like": [("coffee.png", 3)]}):
        one, two, all_of_them = (
            find_masks(corpus, **asked, contrasts=contrasts, top_k=100, encode=encode)
            for contrasts in (["dog|a house"], ["dog", "a house"], [])
        )
        assert one.equals(two)
        assert 0 < len(one) < len(all_of_them)


def test_alternatives_of_a_text() -> None:
    assert alternatives("a cup | a mug|a cup") == ["a cup", "a mug"]
    assert alternatives("cup") == ["cup"]
    with pytest.raises(InputError, match="empty alternative"):
        alternatives("cup|")


def test_more_like_a_mask(made: MadeCorpus) -> None:
    corpus = Corpus.open(made.uri)
    rows = {(row["image_id"], row["mask_index"]): row for row in made.masks}
    masks = [("coffee.png", 3), ("chelsea.png", 0)]
    vectors = mask_vectors(corpus, masks)
    for mask, vector in zip(masks, vectors, strict=True):
        stored = rows[mask]["embedding"].astype(np.float64)
        np.testing.assert_allclose(vector, stored / np.linalg.norm(stored), atol=1e-6)
    hits = find_masks(corpus, like=masks, top_k=5)
    for mask, vector in zip(masks, vectors, strict=True):
        others = [row for row in made.masks if (row["image_id"], row["mask_index"]) != mask]
        assert found(hits, f"{mask[0]}#{mask[1]}") == answers(others, vector[None], 5)


def test_texts_and_masks_in_one_search(made: MadeCorpus) -> None:
    corpus = Corpus.open(made.uri)
    hits = find_masks(corpus, ["cat"], like=[("coffee.png", 3)], top_k=2, encode=encode)
    assert hits["text"].to_pylist() == ["cat"] * 2 + ["coffee.png#3"] * 2
    assert hits.slice(0, 2).equals(find_masks(corpus, ["cat"], top_k=2, encode=encode))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"like": [("coffee.png", 99)]}, r"the corpus \S+ holds no mask 99 of 'coffee.png'; its masks are 0 to \d+$"),
        ({"like": [("camera.png", 0)]}, "holds no mask 0 of 'camera.png'; no mask was found on it"),
        ({"like": [("gone.png", 0)]}, "holds no image"),
        ({"like": [("coffee.png", 1)]}, "has no embedding"),
        ({}, "nothing to search for"),
        ({"texts": ["cat"], "min_score": float("nan")}, "--min-score nan: give a number from -1 to 1"),
        ({"texts": ["cat"], "per_image": 0}, "--per-image 0"),
        ({"texts": ["cat"], "distinct": 0.0}, "--distinct 0"),
        ({"texts": ["cat"], "distinct": 1.5}, "--distinct 1.5"),
        ({"texts": ["cat"], "contrasts": [""]}, "is empty"),
    ],
)
def test_wrong_options(made: MadeCorpus, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_masks(Corpus.open(made.uri), encode=encode, **options)


def test_the_name_of_a_mask() -> None:
    assert parse_mask("00000.tar/a#b.jpg#12", "--like") == ("00000.tar/a#b.jpg", 12)
    for text in ("cup.jpg", "#3", "cup.jpg#", "cup.jpg#-1", "cup.jpg#" + 20 * "9"):
        with pytest.raises(InputError, match="write image_id#mask_index"):
            parse_mask(text, "--like")


@pytest.mark.parametrize(
    ("min_score", "min_calibrated", "said"),
    [
        (None, 0.5, "a spoon: nothing stands out; --min-calibrated 0 shows the nearest\n"),
        (0.3, None, "a spoon: nothing stands out; a lower --min-score shows the nearest\n"),
        (0.3, 0.5, "a spoon: nothing stands out; --min-calibrated 0 and a lower --min-score shows the nearest\n"),
        (None, 0.0, "a spoon: nothing stands out\n"),
        (-1.0, None, "a spoon: nothing stands out\n"),
    ],
)
def test_the_command_says_how_to_see_the_nearest(
    capsys: pytest.CaptureFixture[str], min_score: float | None, min_calibrated: float | None, said: str
) -> None:
    why = f"nothing stands out{cli_search._nearest_hint(min_score, min_calibrated)}"
    found = cli_search._query("a spoon", [], why)
    assert found == {"text": "a spoon", "hits": 0, "best": None}
    assert capsys.readouterr().out == said


def test_a_text_alone_is_a_text_and_not_its_letters(made_once: MadeCorpus) -> None:
    corpus = Corpus.open(made_once.uri)
    asked = {"encode": encode, "top_k": 200}
    assert find_masks(corpus, "a cup", **asked) == find_masks(corpus, ["a cup"], **asked)
    with_contrast = find_masks(corpus, ["a cup"], contrasts=["dog"], **asked)
    assert find_masks(corpus, ["a cup"], contrasts="dog", **asked) == with_contrast
    assert 0 < with_contrast.num_rows < find_masks(corpus, ["a cup"], **asked).num_rows
    image = corpus.image("astronaut.png")
    assert image.select(encode=encode, texts="cup").mask_indices == image.text("cup", encode=encode).mask_indices
    assert corpus.masks("area").column_names == ["area"]
    assert list(corpus.image_rows("astronaut.png")) == ["astronaut.png"]


def test_a_text_that_names_an_example_is_refused(made_once: MadeCorpus, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--corpus", made_once.uri, "--like", "astronaut.png#0", "--text", "astronaut.png#0"]
    assert main(["search", *arguments]) == 2
    assert "--text 'astronaut.png#0': names a mask of --like too" in capsys.readouterr().err


def test_an_example_named_twice_is_one_search(made_once: MadeCorpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--corpus", made_once.uri, "--like", "coffee.png#3", "coffee.png#03"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [query["text"] for query in summary["queries"]] == ["coffee.png#3"]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("area < 0", "a cup: no mask passes --where\n"),
        ("area > 0", "a cup: nothing stands out; a lower --min-score shows the nearest\n"),
    ],
)
def test_nothing_found_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str, told: str) -> None:
    made = as_if_builtin(str(tmp_path / "corpus"), tmp_path)
    assert main(["search", "--corpus", made.uri, "--text", "a cup", "--min-score", "0.999", "--where", where]) == 0
    assert capsys.readouterr().out.startswith(told)


def test_a_corpus_without_masks_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = as_if_builtin(str(tmp_path / "corpus"), tmp_path)
    for unit_id in {image["unit_id"] for image in made.images}:
        write_unit(made.uri, unit_id, [image for image in made.images if image["unit_id"] == unit_id], [])
    assert main(["search", "--corpus", made.uri, "--text", "a cup"]) == 0
    assert capsys.readouterr().out.startswith("a cup: the corpus has no masks\n")


def test_the_files_written_are_named(made_once: MadeCorpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(tmp_path / "hits.parquet"), str(tmp_path / "hits.html")]
    arguments = ["--like", "astronaut.png#0", "--top-k", "1", "--output", files[0], "--gallery", files[1]]
    assert main(["search", "--corpus", made_once.uri, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "astronaut.png#0: 1 mask"
    assert lines[-3:-1] == [f"written  {file}" for file in files] and all(Path(file).is_file() for file in files)


@pytest.mark.parametrize("like", ["coffee.png#3", ("coffee.png", 3), ["coffee.png#3"], [("coffee.png", np.int64(3))]])
def test_an_example_is_named_in_any_way(made_once: MadeCorpus, like) -> None:
    corpus = Corpus.open(made_once.uri)
    hits = find_masks(corpus, like=like, top_k=3)
    assert hits.equals(find_masks(corpus, like=[("coffee.png", 3)], top_k=3)) and hits.num_rows == 3


@pytest.mark.parametrize(
    "like", [[("coffee.png", "3")], [("coffee.png",)], "coffee.png", ("coffee.png", "chelsea.png")]
)
def test_what_names_no_example_is_a_sentence(made_once: MadeCorpus, like) -> None:
    with pytest.raises(InputError, match="image_id"):
        find_masks(Corpus.open(made_once.uri), like=like)
