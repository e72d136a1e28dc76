"""The exact scan against the slow one, ties, thresholds, and its memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from corpus.made_corpus import DIM, MadeCorpus, make_corpus, masks_table, write, write_unit
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


# Filters, and whether they hold for a row of masks and its row of images.
FILTERS: dict[str | None, Callable[[dict[str, Any], dict[str, Any]], bool]] = {
    None: lambda mask, image: True,
    "score < 0.75 and image_id != 'coffee.png'": lambda mask, _: (
        mask["score"] < 0.75 and mask["image_id"] != "coffee.png"
    ),
    "score >= 0": lambda mask, image: True,
    "mask_index = 1": lambda mask, image: False,  # without embeddings, all of them
    "unit_id = 'unit-0001' or stability > 0.8": lambda mask, image: (
        image["unit_id"] == "unit-0001" or mask["stability"] > np.float32(0.8)
    ),
    "width > 390": lambda mask, image: image["width"] > 390,
    "not (height = 400 and bbox.x > 100)": lambda mask, image: not (image["height"] == 400 and mask["bbox"][0] > 100),
    "uri like '%coins%' and unit_id in ('unit-0002', 'no')": lambda mask, _: mask["image_id"] == "coins.png",
    "error_kind = 'decode'": lambda mask, image: False,  # of images without masks, and null of others
}


@pytest.fixture(scope="module", params=["other writers", "our own"])
def written(request: pytest.FixtureRequest, made_once: MadeCorpus, tmp_path_factory) -> MadeCorpus:
    """The corpus in small row groups, which Arrow reads, and in pages that are read one by one."""
    if request.param == "other writers":
        return made_once
    folder = tmp_path_factory.mktemp("own") / "corpus"
    shutil.copytree(made_once.uri, folder)
    for file in (folder / "masks").iterdir():
        file.write_bytes(parquet_bytes(pq.read_table(file)))
    return MadeCorpus(str(folder), made_once.masks, made_once.images)


@given(
    seed=st.integers(0, 2**32 - 1),
    top_k=st.sampled_from([1, 2, 5, 17, 100]),
    min_score=st.one_of(st.none(), st.floats(-0.5, 0.875, width=32)),
    where=st.sampled_from(list(FILTERS)),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_agrees_with_the_slow_search(
    written: MadeCorpus, seed: int, top_k: int, min_score: float | None, where: str | None
) -> None:
    vectors = unit_vectors(3, seed)
    image_of = {row["image_id"]: row for row in written.images}
    rows = [row for row in written.masks if FILTERS[where](row, image_of[row["image_id"]])]
    found = scan(Corpus.open(written.uri), plain_queries(vectors, min_score), top_k, where)
    for hits, vector in zip(found, vectors, strict=True):
        expected = best_masks(rows, vector, top_k, min_score)
        assert [(hit.similarity, hit.image_id, hit.mask_index) for hit in hits] == expected


def test_equal_masks_go_by_image_and_index(made: MadeCorpus) -> None:
    # The same embeddings again under other names, in another unit: every similarity occurs twice.
    again = [row | {"image_id": "0-" + row["image_id"]} for row in made.masks]
    write_unit(made.uri, "unit-0009", [], again)
    vectors = unit_vectors(4, 1)
    for top_k in (1, 7, 12):
        found = scan(Corpus.open(made.uri), plain_queries(vectors), top_k)
        for hits, vector in zip(found, vectors, strict=True):
            expected = best_masks(made.masks + again, vector, top_k)
            assert [(hit.similarity, hit.image_id, hit.mask_index) for hit in hits] == expected


def test_a_filter_opens_the_files_alone_that_it_needs(made: MadeCorpus) -> None:
    for unit in ("unit-0000", "unit-0002"):
        write(made.uri, f"masks/{unit}.parquet", b"broken")
    for unit in ("unit-0000", "unit-0001", "unit-0002"):
        write(made.uri, f"images/{unit}.parquet", b"broken")
    hits = scan(Corpus.open(made.uri), plain_queries(unit_vectors(1, 5)), 100, "unit_id = 'unit-0001' and area > 0")[0]
    assert {hit.unit_id for hit in hits} == {"unit-0001"}
    assert len(hits) == 10
    with pytest.raises(InputError, match=r"images/unit-0001\.parquet .* broken"):
        scan(Corpus.open(made.uri).only(["unit-0001"]), plain_queries(unit_vectors(1, 5)), 1, "width > 5")
    with pytest.raises(InputError, match=r"masks/unit-0000\.parquet .* broken"):
        scan(Corpus.open(made.uri), plain_queries(unit_vectors(1, 5)), 1, "area > 0")


def test_a_filter_in_arrow_s_words(made: MadeCorpus) -> None:
    corpus, query = Corpus.open(made.uri), plain_queries(unit_vectors(1, 5))
    assert scan(corpus, query, 9, pc.field("area") > 900) == scan(corpus, query, 9, "area > 900")
    with pytest.raises(InputError, match=r"the filter .* does not fit"):
        scan(corpus, query, 9, pc.field("width") > 900)


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
