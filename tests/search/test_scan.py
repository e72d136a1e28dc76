"""The exact scan against the slow one, ties, thresholds, and its memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.made_corpus import DIM, MadeCorpus, make_corpus, masks_table, write_unit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.search import best_masks
from threadpoolctl import threadpool_info

from fastsam_batch import Corpus
from fastsam_batch.corpus import chunks, pages, vectors
from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.corpus.write import parquet_bytes
from fastsam_batch.errors import InputError
from fastsam_batch.search.best import plain_queries
from fastsam_batch.search.scan import scan


def unit_vectors(count: int, seed: int, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    top_k=st.sampled_from([1, 2, 5, 17, 100]),
    min_score=st.one_of(st.none(), st.floats(-0.5, 0.875, width=32)),
    batch_rows=st.sampled_from([1, 3, 7, 1000]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_agrees_with_the_slow_search(
    made_once: MadeCorpus, seed: int, top_k: int, min_score: float | None, batch_rows: int
) -> None:
    vectors = unit_vectors(3, seed)
    found = scan(Corpus.open(made_once.uri), plain_queries(vectors, min_score), top_k, batch_rows=batch_rows)
    for hits, vector in zip(found, vectors, strict=True):
        expected = best_masks(made_once.masks, vector, top_k, min_score)
        assert [(hit.similarity, hit.image_id, hit.mask_index) for hit in hits] == expected


def test_equal_masks_go_by_image_and_index(made: MadeCorpus) -> None:
    # The same embeddings again under other names, in another unit: every similarity occurs twice.
    again = [row | {"image_id": "0-" + row["image_id"]} for row in made.masks]
    write_unit(made.uri, "unit-0009", [], again)
    vectors = unit_vectors(4, 1)
    for top_k in (1, 7, 12):
        for batch_rows in (2, 5, 1000):
            found = scan(Corpus.open(made.uri), plain_queries(vectors), top_k, batch_rows=batch_rows)
            for hits, vector in zip(found, vectors, strict=True):
                expected = best_masks(made.masks + again, vector, top_k)
                assert [(hit.similarity, hit.image_id, hit.mask_index) for hit in hits] == expected


def test_filter_before_the_best_are_taken(made: MadeCorpus) -> None:
    vector = unit_vectors(1, 5)
    hits = scan(Corpus.open(made.uri), plain_queries(vector), 4, where="score < 0.75 and image_id != 'coffee.png'")[0]
    rows = [row for row in made.masks if row["score"] < 0.75 and row["image_id"] != "coffee.png"]
    assert [(hit.similarity, hit.image_id, hit.mask_index) for hit in hits] == best_masks(rows, vector[0], 4)


def test_a_threshold_above_all_finds_nothing(made: MadeCorpus) -> None:
    assert scan(Corpus.open(made.uri), plain_queries(unit_vectors(2, 0), 0.999), 5) == [[], []]


def test_vectors_that_are_no_numbers_are_never_hits(made: MadeCorpus) -> None:
    bad = [made.masks[0] | {"mask_index": 0, "embedding": [value] * DIM} for value in (np.nan, np.inf)]
    write_unit(made.uri, "unit-0009", [], bad)
    hits = scan(Corpus.open(made.uri), plain_queries(unit_vectors(1, 0)), 100)[0]
    assert "unit-0009" not in {hit.unit_id for hit in hits}


@pytest.mark.parametrize("where", [None, "score >= 0"])
def test_infinite_vectors_take_no_other_s_place(made: MadeCorpus, where: str | None) -> None:
    vector = unit_vectors(1, 0)
    rows = [
        made.masks[0] | {"mask_index": index, "embedding": embedding}
        for index, embedding in enumerate([(np.inf * np.sign(vector[0])).tolist(), vector[0].tolist()])
    ]
    write_unit(made.uri, "unit-0009", [], rows)
    hits = scan(Corpus.open(made.uri), plain_queries(vector), 1, where)[0]
    assert [(hit.unit_id, hit.mask_index) for hit in hits] == [("unit-0009", 1)]


def test_scans_that_overlap_leave_blas_its_threads(made: MadeCorpus) -> None:
    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    corpus, before = Corpus.open(made.uri), threads()
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda seed: scan(corpus, plain_queries(unit_vectors(1, seed)), 2), range(24)):
            pass
    assert threads() == before


def test_embedding_matrix_of_a_slice_with_nulls(made: MadeCorpus) -> None:
    column = masks_table(made.masks, DIM)["embedding"].combine_chunks()
    matrix = embedding_matrix(column.slice(3, 7))
    for row, stored in zip(matrix, column.slice(3, 7).to_pylist(), strict=True):
        np.testing.assert_array_equal(row, [np.nan] * DIM if stored is None else stored)


@pytest.mark.parametrize(
    ("dim", "top_k", "message"),
    [(DIM, 0, "ask for at least 1"), (DIM + 1, 5, f"has {DIM + 1} dimensions, the corpus")],
)
def test_wrong_questions(made: MadeCorpus, dim: int, top_k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        scan(Corpus.open(made.uri), plain_queries(unit_vectors(1, 0, dim)), top_k)


def test_a_corpus_without_embeddings(tmp_path: Path) -> None:
    made = make_corpus(str(tmp_path / "corpus"), tmp_path, dim=None)
    with pytest.raises(InputError, match="no embeddings"):
        scan(Corpus.open(made.uri), plain_queries(unit_vectors(1, 0)), 5)


def test_memory_does_not_grow_with_the_corpus(made: MadeCorpus) -> None:
    for unit in range(24):
        write_unit(made.uri, f"unit-1{unit:03d}", [], made.masks[:1] * 4000, row_group_size=4000)
    corpus = Corpus.open(made.uri)
    columns = ["image_id", "embedding", "rle"]
    table_bytes = corpus.masks(columns).nbytes
    pa.default_memory_pool().release_unused()
    before, peak = pa.total_allocated_bytes(), 0
    for _ in corpus.mask_batches(columns, batch_rows=500):
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < table_bytes / 4


@pytest.mark.parametrize("what", ["embeddings", "names"])
def test_a_file_that_is_cut_short_meanwhile_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    made = make_corpus(str(tmp_path / "corpus"), tmp_path)
    for file in (tmp_path / "corpus" / "masks").iterdir():
        file.write_bytes(parquet_bytes(pq.read_table(file)))  # whose pages are read one by one
    module, name = (pages.HalfLists, "take") if what == "embeddings" else (vectors, "_names")
    real = getattr(module, name)

    def cut(*arguments):
        for file in (tmp_path / "corpus" / "masks").iterdir():
            file.write_bytes(file.read_bytes()[:40])
        return real(*arguments)

    monkeypatch.setattr(chunks, "_MOST_UNPACKED", 0)  # as in a large row group
    monkeypatch.setattr(module, name, cut)
    with pytest.raises(InputError, match=r"masks/unit-000\d\.parquet"):
        scan(Corpus.open(made.uri), plain_queries(np.eye(1, DIM, dtype=np.float32)), 3)
