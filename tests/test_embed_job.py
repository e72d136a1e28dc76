"""Embedding a corpus anew: the same masks, other vectors, through the real graph."""

from __future__ import annotations

import http.server
import json

import numpy as np
import pytest
from corpus.made_corpus import make_corpus, read, write
from photographs import write_photographs
from PIL import Image
from servers import web_server
from sources.made_inputs import write_tar

from fastsam_batch.cli import main
from fastsam_batch.config import segment_options
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.errors import InputError
from fastsam_batch.reembed import embed_corpus
from fastsam_batch.run import segment_corpus


@pytest.fixture(scope="module")
def segmented(tmp_path_factory, local_ray):
    """A corpus of four photographs and a broken one, embedded by masked crops."""
    folder = tmp_path_factory.mktemp("segmented")
    write_photographs(folder / "photos", ["coffee", "rocket", "chelsea", "china"])
    (folder / "photos" / "broken.png").write_bytes(b"no image")
    values = {"input": str(folder / "photos"), "output": str(folder / "corpus"), "unit_size": 2, "crop": "masked"}
    segment_corpus(segment_options(values))
    return folder


def embed(capsys, *arguments):
    """Exit code, summary and error of the command."""
    code = main(["embed", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, json.loads(printed.out.splitlines()[-1]) if code in (0, 3) else None, printed.err


def vectors(corpus):
    return [row and np.float32(row) for row in corpus.masks(["embedding"])["embedding"].to_pylist()]


def same(a, b):
    return [(x is None and y is None) or float(x @ y) > 0.999 for x, y in zip(a, b, strict=True)]


def test_the_same_masks_with_other_vectors(segmented, tmp_path, capsys):
    corpus, there = str(tmp_path / "anew"), Corpus.open(str(segmented / "corpus"))
    code, summary, _ = embed(
        capsys, "--corpus", there.uri, "--embedder", "builtin", "--crop", "both", "--output", corpus
    )
    assert (code, summary["images"], summary["failed"], summary["units"]) == (0, 5, 1, 3)
    made = Corpus.open(corpus)
    stored = ["image_id", "mask_index", "bbox", "area", "score", "stability", "rle"]
    assert made.masks(stored).equals(there.masks(stored)) and made.images().equals(there.images())
    assert sorted(made.receipts()) == sorted(there.receipts())
    pairs = list(zip(vectors(made), vectors(there), strict=True))
    assert all((x is None) == (y is None) for x, y in pairs)  # masks too small for a vector stay so
    embedded = [pair for pair in pairs if pair[0] is not None]
    assert embedded and not any(same(*zip(*embedded, strict=True)))
    assert made.info["options"] == {**there.info["options"], "crop": "both"}
    assert made.info["fingerprint"] != there.info["fingerprint"] and verify_corpus(corpus).ok

    code, summary, _ = embed(
        capsys, "--corpus", there.uri, "--embedder", "builtin", "--crop", "both", "--output", corpus
    )
    assert (code, summary["units"], summary["skipped_units"]) == (0, 0, 3)
    code, _, error = embed(capsys, "--corpus", there.uri, "--embedder", "builtin", "--output", corpus)
    assert code == 2 and "--crop was both, is masked" in error


def test_as_the_corpus_was_made_gives_its_vectors_and_a_changed_image_fails(segmented, tmp_path, capsys):
    there, corpus = Corpus.open(str(segmented / "corpus")), str(tmp_path / "again")
    photograph = segmented / "photos" / "rocket.png"
    before = photograph.read_bytes()
    Image.new("RGB", (64, 48)).save(photograph)
    try:
        code, summary, _ = embed(
            capsys, "--corpus", there.uri, "--embedder", "builtin", "--output", corpus, "--max-failed-fraction", "0.3"
        )
    finally:
        photograph.write_bytes(before)
    assert (code, summary["failures"]) == (3, {"changed": 1, "not_an_image": 1})
    made, kept = Corpus.open(corpus), "image_id != 'rocket.png'"
    assert made.masks(["image_id"], "image_id = 'rocket.png'").num_rows == 0
    ours, theirs = (c.masks(["embedding"], kept)["embedding"].to_pylist() for c in (made, there))
    assert all(same([v and np.float32(v) for v in ours], [v and np.float32(v) for v in theirs]))
    assert made.info["fingerprint"] == there.info["fingerprint"] and verify_corpus(corpus).ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--embedder", "none", "--output", "{}/a"], "nothing to embed with"),
        (["--embedder", "builtin", "--output", "{corpus}"], "is the corpus itself"),
        (["--embedder", "builtin", "--output", "{}/a", "--min-area", "-1"], "--min-area -1"),
    ],
)
def test_refusals(segmented, tmp_path, capsys, arguments, message):
    corpus = segmented / "corpus"
    values = [argument.replace("{corpus}", str(corpus)).replace("{}", str(tmp_path)) for argument in arguments]
    code, _, error = embed(capsys, "--corpus", corpus, *values)
    assert code == 2 and message in error and error.count("\n") == 1


def test_an_input_that_was_signed_is_told(tmp_path):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with web_server(Refusing) as server:
        (tmp_path / "photos").mkdir()
        corpus = make_corpus(str(tmp_path / "corpus"), tmp_path / "photos").uri
        info = json.loads(read(corpus, "corpus.json"))
        write(corpus, "corpus.json", json.dumps({**info, "input": f"{server}/s.tar"}).encode())
        with pytest.raises(InputError, match=r"s\.tar: 403.*; a corpus keeps no passwords and signatures .* another"):
            embed_corpus(corpus, {"embedder": "builtin", "output": str(tmp_path / "other")})


def test_only_committed_units_of_a_shard_are_embedded_and_one_without_files_stops_no_other(local_ray, tmp_path, capsys):
    photographs = write_photographs(tmp_path / "photos", ["coffee", "rocket", "chelsea", "china"])
    write_tar(tmp_path / "s.tar", [(path.name, path.read_bytes()) for path in photographs])
    source, corpus = str(tmp_path / "s.tar"), tmp_path / "corpus"
    options = segment_options({"input": source, "output": str(corpus), "unit_size": 1, "crop": "masked"})
    segment_corpus(options)
    units = sorted(Corpus.open(str(corpus)).receipts())
    (corpus / "receipts" / f"{units[1]}.json").unlink()  # its files are there, yet it is not committed
    (corpus / "receipts" / f"{units[3]}.json").unlink()
    (corpus / "masks" / f"{units[2]}.parquet").unlink()
    arguments = ["--corpus", corpus, "--embedder", "builtin", "--crop", "both", "--output", tmp_path / "anew"]
    code, summary, _ = embed(capsys, *arguments)
    assert (code, summary["units"], summary["unfinished_units"]) == (3, 1, 1)
    assert summary["unfinished"][0]["unit_id"] == units[2]
    assert f"cannot read masks/{units[2]}.parquet" in summary["unfinished"][0]["reason"]
    assert list(Corpus.open(str(tmp_path / "anew")).receipts()) == [units[0]]

    (corpus / "receipts" / f"{units[2]}.json").unlink()
    segment_corpus(options)
    code, summary, _ = embed(capsys, *arguments)
    assert (code, summary["units"], summary["unfinished_units"]) == (0, 3, 0)
    assert sorted(Corpus.open(str(tmp_path / "anew")).receipts()) == units
    assert verify_corpus(str(tmp_path / "anew")).ok
