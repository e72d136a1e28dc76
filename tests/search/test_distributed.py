"""The scan as a Ray Data job finds what the scan finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus.made_corpus import DIM, MadeCorpus, write

from fastsam_batch import Corpus
from fastsam_batch.cli import main
from fastsam_batch.errors import InputError
from fastsam_batch.search.best import plain_queries
from fastsam_batch.search.distributed import scan_distributed
from fastsam_batch.search.find import engine_of, find_masks
from fastsam_batch.search.scan import scan


def encode(sentences: list[str]) -> np.ndarray:
    vectors = [np.random.default_rng(list(sentence.encode())).normal(size=DIM) for sentence in sentences]
    return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


@pytest.mark.parametrize("where", [None, "score < 0.75 and width >= 100"])
def test_the_same_hits(made_once: MadeCorpus, local_ray: object, where: str | None) -> None:
    corpus = Corpus.open(made_once.uri)
    options = {"top_k": 7, "where": where, "contrasts": ["dog"], "per_image": 2, "encode": encode}
    found = find_masks(corpus, ["cat|cup", "tree"], engine="distributed", **options)
    exact = find_masks(corpus, ["cat|cup", "tree"], engine="scan", **options)
    assert (engine_of(found), engine_of(exact)) == ("distributed", "scan")
    assert found.equals(exact)
    assert len(found)


def test_tasks_of_one_unit_each(made_once: MadeCorpus, local_ray: object) -> None:
    corpus = Corpus.open(made_once.uri)
    assert len(corpus.receipts()) == 3
    queries = plain_queries(encode(["cat", "tree"]))
    found = scan_distributed(corpus, queries, 9, units_a_task=1)
    assert found == scan(corpus, queries, 9)
    assert len({hit.unit_id for hit in found[0]}) > 1


def test_a_relative_corpus_where_workers_have_another_folder(
    made_once: MadeCorpus, local_ray: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(made_once.uri).parent)
    corpus = Corpus.open("corpus")
    queries = plain_queries(encode(["cat"]))
    assert scan_distributed(corpus, queries, 9) == scan(corpus, queries, 9)


def test_a_broken_file_is_one_sentence(made: MadeCorpus, local_ray: object) -> None:
    write(made.uri, "masks/unit-0001.parquet", b"PAR1 is not enough")
    with pytest.raises(InputError, match=r"^cannot read masks/unit-0001\.parquet .* broken .*receipt restores it$"):
        scan_distributed(Corpus.open(made.uri), plain_queries(encode(["cat"])), 5)


def test_the_command(made_once: MadeCorpus, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["search", "--corpus", made_once.uri, "--text", "a cat", "--distributed", "--engine", "scan"]
    assert main(wrong) == 2
    assert "leave out --engine scan" in capsys.readouterr().err


def test_parts_of_a_corpus(made_once: MadeCorpus) -> None:
    corpus = Corpus.open(made_once.uri)
    part = corpus.only(["unit-0001"])
    assert list(part.receipts()) == ["unit-0001"]
    queries = plain_queries(encode(["cat"]))
    hits = scan(corpus, queries, 100)[0]
    assert scan(part, queries, 100)[0] == [hit for hit in hits if hit.unit_id == "unit-0001"]


def test_wrong_questions_start_no_job(made_once: MadeCorpus) -> None:
    with pytest.raises(InputError, match="ask for at least 1"):
        scan_distributed(Corpus.open(made_once.uri), plain_queries(encode(["cat"])), 0)
