"""Saved queries to labels: the rule, the file, the job."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from corpus.builtin_corpus import as_if_builtin
from corpus.made_corpus import DIM, MadeCorpus, make_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_batch import Corpus
from fastsam_batch.cli import job
from fastsam_batch.errors import InputError
from fastsam_batch.search.classes import ClassQuery, parse_classes, read_classes
from fastsam_batch.search.label_table import LABELS_SCHEMA, write_labels
from fastsam_batch.search.labels import NO_LABEL, assign_labels, encode_classes
from fastsam_batch.search.texts import text_vectors

TEXTS = ["cup", "mug", "plate", "table", "spoon"]


def encode(sentences: Sequence[str]) -> np.ndarray:
    vectors = [np.random.default_rng(list(sentence.encode())).normal(size=DIM) for sentence in sentences]
    return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


@cache
def vector_of(text: str) -> np.ndarray:
    return text_vectors([text], encode)[0].astype(np.float64)


def cosine(embedding: np.ndarray, text: str) -> np.float32:
    """Of a stored embedding and a text, in float64, rounded once."""
    return np.float32((embedding.astype(np.float64) * vector_of(text)).sum())


def label_of(embedding: np.ndarray | None, classes: Sequence[ClassQuery]) -> tuple[str | None, float | None]:
    """The rule, said again for one mask."""
    if embedding is None:
        return None, None
    best: tuple[str | None, float | None] = (None, None)
    for each in classes:
        score = max(cosine(embedding, text) for text in each.texts)
        passes = each.min_score is None or score >= np.float32(each.min_score)
        passes &= all(score > cosine(embedding, text) for text in each.contrasts)
        if passes and (best[1] is None or score > best[1]):
            best = each.name, score
    return best


SOME = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3, unique=True).map(tuple)
CLASSES = st.lists(
    st.builds(ClassQuery, st.just("?"), SOME, st.just(()) | SOME, st.none() | st.sampled_from([0.0, 0.2, 0.4])),
    min_size=1,
    max_size=4,
).map(lambda found: [ClassQuery(f"class {n}", c.texts, c.contrasts, c.min_score) for n, c in enumerate(found)])


@settings(max_examples=60, deadline=None)
@given(CLASSES, st.integers(0, 2**32 - 1))
def test_labels_follow_the_rule(classes: list[ClassQuery], seed: int) -> None:
    embeddings = np.random.default_rng(seed).normal(size=(12, DIM)).astype(np.float16).astype(np.float32)
    embeddings[3] = np.nan
    # As near to two texts, or but for the last bits; all others are far apart.
    embeddings[4:6] = vector_of("cup") + vector_of("mug"), vector_of("cup") + np.nextafter(vector_of("mug"), 1)
    labels, scores = assign_labels(embeddings, encode_classes(classes, encode))
    for row, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True)):
        name = None if label == NO_LABEL else classes[label].name
        expected = label_of(None if row == 3 else embeddings[row], classes)
        assert (name, None if np.isnan(score) else np.float32(score)) == expected


def test_a_damaged_embedding_gets_no_label() -> None:
    embeddings = np.full((2, DIM), np.inf, np.float32) * np.sign(vector_of("cup")).astype(np.float32)
    embeddings[1] = vector_of("cup")
    labels, scores = assign_labels(embeddings, encode_classes(parse_classes(["cup"]), encode))
    assert labels.tolist() == [NO_LABEL, 0] and np.isnan(scores[0])


def test_no_mask_has_no_labels() -> None:
    labels, scores = assign_labels(np.zeros((0, DIM), np.float32), encode_classes(parse_classes(["cup"]), encode))
    assert len(labels) == len(scores) == 0


def test_a_file_of_classes(tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text(
        """
        min_score: 0.2
        not: [background, a wall]
        classes:
          - spoon
          - name: cup
            texts: [a cup|a mug, a tea cup]
            not: a plate
            min_score: 0.3
          - {name: wall, texts: a wall}
        """
    )
    assert read_classes(str(tmp_path / "classes.yaml")) == [
        ClassQuery("spoon", ("spoon",), ("background", "a wall"), 0.2),
        ClassQuery("cup", ("a cup", "a mug", "a tea cup"), ("a plate", "background", "a wall"), 0.3),
        ClassQuery("wall", ("a wall",), ("background",), 0.2),
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "there are no classes"),
        ([], "there are no classes"),
        ({"class": ["cup"]}, "'class', which is none of classes, not, min_score"),
        (["cup", "cup"], "two classes 'cup'"),
        ([{"texts": ["cup"]}], "has no name"),
        (["a\x0bcup"], "has a control character"),
        (["a\ud800cup"], "has a control character"),
        (["a\x85cup"], "has a control character"),
        ([3], "a class is 3"),
        ([{"name": "cup", "text": "mug"}], "class 'cup' has 'text', which is none of name, texts, not, min_score"),
        ([{"name": "cup", "texts": []}], "class 'cup' has no texts"),
        ([{"name": "cup", "texts": [1]}], "`texts` of class 'cup' is [1]"),
        ([{"name": "cup", "min_score": "high"}], "min_score of class 'cup' is 'high', not a cosine"),
        ([{"name": "cup", "min_score": 25}], "min_score of class 'cup' is 25"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, document, message: str) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError) as raised:
        read_classes(str(path))
    assert message in str(raised.value) and str(path) in str(raised.value)


@pytest.mark.parametrize("content", ["a: [", "\t", "- {name: cup, texts: [2024-13-45]}"])
def test_a_file_that_is_no_yaml(tmp_path: Path, content: str) -> None:
    (tmp_path / "classes.yaml").write_text(content)
    with pytest.raises(InputError, match=r"classes\.yaml: .*it should hold a list of classes"):
        read_classes(str(tmp_path / "classes.yaml"))


def run(made: MadeCorpus, folder: Path, *arguments: str) -> int:
    places = ["--classes", str(folder / "classes.yaml"), "--output", str(folder / "labels.parquet")]
    return job("label", ["--corpus", made.uri, *places, *arguments])


def test_every_mask_of_a_corpus_has_a_row(made: MadeCorpus, tmp_path: Path) -> None:
    cup, spoon = {"name": "cup", "texts": ["cup", "mug"], "min_score": 0.1}, {"name": "spoon", "not": ["plate"]}
    classes = parse_classes([cup, spoon])
    counts = write_labels(Corpus.open(made.uri), classes, encode, str(tmp_path / "labels.parquet"))
    table = pq.read_table(tmp_path / "labels.parquet")
    assert table.schema.equals(LABELS_SCHEMA)
    expected = [(row["image_id"], row["mask_index"], *label_of(row["embedding"], classes)) for row in made.masks]
    assert [tuple(row.values()) for row in table.to_pylist()] == expected
    assert counts == Counter(label for _, _, label, _ in expected) and set(counts) == {"cup", "spoon", None}
    assert [each["name"] for each in json.loads(table.schema.metadata[b"classes"])] == ["cup", "spoon"]


def test_the_job_and_an_export_give_the_same_labels(made: MadeCorpus, tmp_path: Path, capsys) -> None:
    real = as_if_builtin(str(tmp_path / "builtin"), tmp_path)
    cup, spoon = "{name: cup, texts: [cup, mug], min_score: 0.02}", "{name: spoon, not: plate}"
    (tmp_path / "classes.yaml").write_text(f"[{cup}, {spoon}]")
    assert run(real, tmp_path) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    output = tmp_path / "coco.json"
    arguments = ["--format", "coco", "--output", str(output), "--classes", str(tmp_path / "classes.yaml")]
    assert job("export", ["--corpus", real.uri, *arguments]) == 0
    document = json.loads(output.read_text())
    assert [category["name"] for category in document["categories"]] == ["cup", "spoon"]
    images = {image["id"]: image["file_name"] for image in document["images"]}
    names = {category["id"]: category["name"] for category in document["categories"]}
    exported = {
        (images[each["image_id"]], each["mask_index"]): (names[each["category_id"]], each["similarity"])
        for each in document["annotations"]
    }
    labels = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    stored = {(row["image_id"], row["mask_index"]): row for row in labels if row["label"]}
    assert exported.keys() == stored.keys() and exported
    for key, (name, similarity) in exported.items():
        assert name == stored[key]["label"] and similarity == pytest.approx(stored[key]["score"], abs=1e-6)
    assert summary["masks"] == len(real.masks) and sum(summary["labels"].values()) == len(stored)
    assert summary["unlabelled"] == len(real.masks) - len(stored) > 0


def test_wrong_arguments(made: MadeCorpus, tmp_path: Path, capsys) -> None:
    assert run(made, tmp_path) == 2
    assert "cannot read the classes" in capsys.readouterr().err
    (tmp_path / "classes.yaml").write_text("[cup]")
    assert run(made, tmp_path, "--output", str(tmp_path / "labels.csv")) == 2
    assert "labels.csv; end its name in .parquet" in capsys.readouterr().err
    bare = make_corpus(str(tmp_path / "bare"), tmp_path, dim=None)
    assert run(bare, tmp_path) == 2
    assert "has no embeddings" in capsys.readouterr().err


def test_a_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text("- name: cup\n  texts: [a cup]\n  texts: [a mug]\n")
    with pytest.raises(InputError, match=r"classes\.yaml: the key 'texts' comes twice .*line 1"):
        read_classes(str(path))
