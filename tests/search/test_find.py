"""From a text to a table of masks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpus.made_corpus import DIM, MadeCorpus, make_corpus
from reference.search import best_masks

from fastsam_batch import Corpus
from fastsam_batch.errors import InputError
from fastsam_batch.search.find import find_masks, hits_schema
from fastsam_batch.search.texts import text_vectors
from fastsam_batch.search.write import write_hits


def encode(sentences: Sequence[str]) -> np.ndarray:
    vectors = [np.random.default_rng(list(sentence.encode())).normal(size=DIM) for sentence in sentences]
    return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


def test_hits_carry_their_masks(made: MadeCorpus) -> None:
    hits = find_masks(Corpus.open(made.uri), ["cat", "coffee cup"], top_k=4, encode=encode)
    assert hits.schema.equals(hits_schema())
    masks = {(row["image_id"], row["mask_index"]): row for row in made.masks}
    uris = {row["image_id"]: row["uri"] for row in made.images}
    for text, vector in zip(["cat", "coffee cup"], text_vectors(["cat", "coffee cup"], encode), strict=True):
        rows = [row for row in hits.to_pylist() if row["text"] == text]
        assert [row["rank"] for row in rows] == [1, 2, 3, 4]
        found = [(row["similarity"], row["image_id"], row["mask_index"]) for row in rows]
        assert found == best_masks(made.masks, vector, 4)
        for row in rows:
            mask = masks[row["image_id"], row["mask_index"]]
            assert all(row[name] == mask[name] for name in ("bbox", "area", "score", "stability", "rle"))
            assert row["uri"] == uris[row["image_id"]]


def test_the_corpus_searches_itself(made: MadeCorpus) -> None:
    corpus = Corpus.open(made.uri)
    found = find_masks(corpus, ["cat"], top_k=3, encode=encode)
    assert corpus.search("cat", top_k=3, encode=encode).equals(found)
    assert corpus.search(texts=["cat"], top_k=3, encode=encode).equals(found)
    like = [(found["image_id"][0].as_py(), found["mask_index"][0].as_py())]
    assert corpus.search(like=like, top_k=3).equals(find_masks(corpus, [], like=like, top_k=3))


def test_a_text_that_nothing_answers_has_no_rows(made: MadeCorpus) -> None:
    hits = find_masks(Corpus.open(made.uri), ["cat"], min_score=0.99, encode=encode)
    assert len(hits) == 0
    assert hits.schema.equals(hits_schema())


def test_a_text_asked_twice_is_answered_once(made: MadeCorpus) -> None:
    hits = find_masks(Corpus.open(made.uri), ["cat", "cat"], top_k=2, encode=encode)
    assert hits["rank"].to_pylist() == [1, 2]


def test_a_corpus_without_an_embedder(tmp_path: Path) -> None:
    made = make_corpus(str(tmp_path / "corpus"), tmp_path, dim=None)
    for asked in ({"texts": ["cat"]}, {"texts": ["cat"], "encode": encode}, {"like": [("coffee.png", 3)]}):
        with pytest.raises(InputError, match=r"the corpus \S+ has no embeddings to search; .* by embed_corpus"):
            find_masks(Corpus.open(made.uri), **asked)


@pytest.mark.parametrize("name", ["hits.parquet", "new/folder/hits.PARQUET"])
def test_hits_as_parquet(made: MadeCorpus, tmp_path: Path, name: str) -> None:
    hits = find_masks(Corpus.open(made.uri), ["cat"], encode=encode)
    write_hits(str(tmp_path / name), hits)
    assert pq.read_table(tmp_path / name).equals(hits)


def test_hits_as_json_lines(made: MadeCorpus, tmp_path: Path) -> None:
    hits = find_masks(Corpus.open(made.uri), ["chaton à rayures"], top_k=3, encode=encode)
    write_hits(str(tmp_path / "hits.jsonl"), hits)
    lines = (tmp_path / "hits.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == hits.to_pylist()
    assert "à" in lines[0]


@pytest.mark.parametrize("name", ["hits.csv", "hits", "parquet"])
def test_other_formats_are_refused(made: MadeCorpus, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"end its name in \.parquet or \.jsonl"):
        write_hits(str(tmp_path / name), hits_schema().empty_table())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        write_hits(str(tmp_path / "file" / "hits.jsonl"), hits_schema().empty_table())
