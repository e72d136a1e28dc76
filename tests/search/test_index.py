"""The index: what it finds, and when it is used."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from botocore.exceptions import BotoCoreError
from corpus.made_corpus import FINGERPRINT, corpus_info, write, write_unit
from search.made_crowd import WIDTH, encode, write_crowd
from servers import s3_server

from fastsam_batch import Corpus
from fastsam_batch.cli import main
from fastsam_batch.errors import InputError
from fastsam_batch.search.best import plain_queries
from fastsam_batch.search.build import build_index, recall
from fastsam_batch.search.find import engine_of, find_masks
from fastsam_batch.search.lance import connect
from fastsam_batch.search.scan import scan


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three units of 400 masks, with an index whose vectors are quantised."""
    folder = tmp_path_factory.mktemp("crowd")
    uri = str(folder / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    for number in range(3):
        write_crowd(uri, folder, number, 400)
    summary = build_index(Corpus.open(uri), encode(["a", "b", "c"]), least_rows=500)
    assert summary["indexed"]
    assert (summary["rows"], summary["new_units"], summary["removed_units"]) == (1197, 3, 0)
    assert summary["recall"] > 0.95
    return uri


FILTERS = [
    None,
    "area < 100",
    "area <= 20 or score > 0.99",
    "not (area between 10 and 900) and bbox.x < 20",
    "image_id like '1/%' and score >= 0.5 and area != 7.5",
    "image_id in ('0/coffee.png', '2/rocket.png') and not score = 0.25",
    "width = 400 and n_masks > 10 and 300 > area and unit_id is not null",
    "uri like '%rocket.png' and area > 5000000000",
    "score > area and bbox.width >= 20",
]


@pytest.mark.parametrize("where", FILTERS)
def test_the_index_finds_what_the_scan_finds(crowd: str, where: str | None) -> None:
    corpus = Corpus.open(crowd)
    options = {"texts": ["cat|cup", "tree"], "top_k": 50, "where": where, "encode": encode}
    exact = find_masks(corpus, engine="scan", **options)
    found = find_masks(corpus, **options)
    assert (engine_of(exact), engine_of(found)) == ("scan", "index")
    assert len(found) == len(exact)
    columns = ["text", "image_id", "mask_index", "similarity"]
    rows = [set(map(tuple, (row.values() for row in each.select(columns).to_pylist()))) for each in (found, exact)]
    assert len(rows[0] & rows[1]) >= 0.95 * len(rows[1])


def test_damaged_embeddings_are_left_out(tmp_path: Path) -> None:
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
    masks = write_crowd(uri, tmp_path, 0, 40)
    for index, value in ((5, np.nan), (8, np.inf)):
        masks[index]["embedding"] = np.full(WIDTH, value, np.float16)
    images = Corpus.open(uri).images().to_pylist()
    write_unit(uri, "unit-0000", images, masks, WIDTH)
    corpus = Corpus.open(uri)
    assert build_index(corpus, encode(["a"]))["rows"] == 37
    found, exact = (find_masks(corpus, ["cat"], top_k=40, encode=encode, engine=each) for each in ("index", "scan"))
    assert found.equals(exact) and len(found) == 37


def test_every_row_that_matches_is_found(crowd: str) -> None:
    corpus = Corpus.open(crowd)
    matching = corpus.masks(["image_id"], "area < 40").num_rows
    found = find_masks(corpus, ["cat"], top_k=1000, where="area < 40", encode=encode)
    assert engine_of(found) == "index"
    assert len(found) == matching - corpus.masks(["embedding"], "area < 40")["embedding"].null_count > 20


def test_options_reach_the_index(crowd: str) -> None:
    corpus = Corpus.open(crowd)
    options: dict[str, Any] = {"encode": encode, "contrasts": ["dog"], "per_image": 2, "top_k": 5, "min_score": -0.5}
    options["where"] = "area < 600"  # few enough to be compared one by one
    found = find_masks(corpus, ["cat"], like=[("1/coffee.png", 7)], **options)
    exact = find_masks(corpus, ["cat"], like=[("1/coffee.png", 7)], engine="scan", **options)
    assert engine_of(found) == "index"
    assert found.drop_columns(["rle"]).to_pylist() == exact.drop_columns(["rle"]).to_pylist()


def test_filters_that_the_index_cannot_answer_are_scanned(crowd: str) -> None:
    corpus = Corpus.open(crowd)
    for where in ("image_id like '1/c\\%' or area < 50", "sha256 is not null and area < 50"):
        found = find_masks(corpus, ["cat"], where=where, encode=encode)
        assert engine_of(found) == "scan"
        assert found.equals(find_masks(corpus, ["cat"], where=where, encode=encode, engine="scan"))
        with pytest.raises(InputError, match=r"the index cannot filter by (a pattern|the column sha256)"):
            find_masks(corpus, ["cat"], where=where, encode=encode, engine="index")
    with pytest.raises(InputError, match="--engine index: this search needs the scan"):
        find_masks(corpus, ["cat"], where=pc.field("area") < 50, encode=encode, engine="index")


def test_another_store_is_refused() -> None:

    with pytest.raises(InputError, match="an index lives on a local disk"):
        connect("memory://corpus")


def test_recall_counts_shared_hits(crowd: str) -> None:
    exact = scan(Corpus.open(crowd), plain_queries(encode(["x", "y"])), 10)
    assert recall([exact[0][:5], None], exact) == 0.25
    assert recall([list(reversed(hits)) for hits in exact], exact) == 1.0


def make_bucket(fs: Any, name: str) -> None:
    """Make a bucket as soon as the server is up to it, which comes after its port answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return fs.mkdir(name)
        except (OSError, BotoCoreError):  # s3fs passes botocore's own on
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("weed", path=str(Path(sys.executable).parent)) is None, reason="no SeaweedFS here")
def test_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with s3_server(tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        make_bucket(s3fs.S3FileSystem(), "crowds")
        uri = "s3://crowds/corpus"
        write(uri, "corpus.json", json.dumps(corpus_info(WIDTH)).encode())
        write_crowd(uri, tmp_path, 0, 200)
        assert build_index(Corpus.open(uri), encode(["a"]), least_rows=100)["indexed"]
        write_crowd(uri, tmp_path, 1, 200)
        assert build_index(Corpus.open(uri), encode(["a"]), least_rows=100)["rows"] == 398
        found = find_masks(Corpus.open(uri), ["cat"], where="area < 300", encode=encode)
        assert engine_of(found) == "index"
        assert found.equals(find_masks(Corpus.open(uri), ["cat"], where="area < 300", encode=encode, engine="scan"))
        s3fs.S3FileSystem.clear_instance_cache()


def test_the_command_refuses_a_corpus_without_embeddings(tmp_path: Path) -> None:
    uri = str(tmp_path / "corpus")
    write(uri, "corpus.json", json.dumps(corpus_info(None)).encode())
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert main(["index", "--corpus", uri]) == 2
    assert "no embeddings" in errors.getvalue()
    assert FINGERPRINT not in errors.getvalue()
