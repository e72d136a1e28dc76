"""The text encoder of a search is the one the corpus was embedded with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from fastsam_batch.corpus.info import describe, write_info
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.errors import InputError
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.weights import BUILTIN_FOLDER
from fastsam_batch.search.find import corpus_encoder


@pytest.fixture(scope="module")
def builtin():
    return Embedder("builtin")


@pytest.fixture
def corpus(tmp_path, builtin):
    embedder = {"name": "builtin", "sha256": builtin.files.sha256(), "licence": "x", "text_encoder": "builtin"}
    models = {"segmenter": {"name": "builtin", "sha256": {"a": "0" * 64}, "licence": "x"}, "embedder": embedder}
    write_info(str(tmp_path / "corpus"), describe("/x", {}, models, builtin.dim))
    return Corpus.open(str(tmp_path / "corpus"))


def test_it_is_the_one_that_corpus_json_names(corpus, builtin):
    encode = corpus_encoder(corpus)
    np.testing.assert_array_equal(encode(["a cat"]), builtin.encode_texts(["a cat"]))
    weights = load_file(BUILTIN_FOLDER / "clip" / "open_clip_model.safetensors")
    assert encode.temperature == pytest.approx(np.exp(float(weights["logit_scale"])))  # as it was trained


def test_a_copy_elsewhere_will_do(corpus, builtin, tmp_path):
    shutil.copytree(BUILTIN_FOLDER / "clip", tmp_path / "copy")
    encode = corpus_encoder(corpus, str(tmp_path / "copy"))
    np.testing.assert_array_equal(encode(["a cat"]), builtin.encode_texts(["a cat"]))


def test_other_weights_are_refused(corpus, tmp_path):
    shutil.copytree(BUILTIN_FOLDER / "clip", tmp_path / "other")
    path = tmp_path / "other" / "open_clip_model.safetensors"
    weights = load_file(path)
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file(weights, path)
    with pytest.raises(InputError, match="are not those the corpus"):
        corpus_encoder(corpus, str(tmp_path / "other"))


def test_a_corpus_without_embeddings_says_so(corpus):
    path = Path(corpus.uri) / "corpus.json"
    document = json.loads(path.read_text())
    document["models"]["embedder"] = None
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="has no embeddings to search"):
        corpus_encoder(Corpus.open(corpus.uri))
