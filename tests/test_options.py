"""Options: what a rerun must say again, and values that are refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from corpus.made_corpus import MadeCorpus

import fastsam_batch
from fastsam_batch.cli import job
from fastsam_batch.config import segment_options
from fastsam_batch.corpus.info import admit, write_info
from fastsam_batch.errors import InputError
from fastsam_batch.models.weights import BUILTIN_FOLDER
from fastsam_batch.ranges import check_range
from fastsam_batch.reembed import _options
from fastsam_batch.run import _describe


def described(**values):
    return _describe(segment_options({"input": "/in", "output": "/out", "embedder": "none", **values}))[0]


def test_a_rerun_that_forgets_a_column_is_refused(tmp_path):
    named, plain = described(bytes_column="jpg", uri_column="link", id_column="key"), described()
    assert not {"bytes_column", "uri_column", "id_column"} & {*plain.options}  # older corpora are still added to
    write_info(str(tmp_path), named)
    with pytest.raises(InputError, match="--bytes-column was jpg, is bytes; --id-column was key, is not given; --uri"):
        admit(str(tmp_path), plain)
    assert admit(str(tmp_path), named) == named


def test_a_relative_path_of_an_embedder_is_recorded_from_the_root(tmp_path, monkeypatch):
    """A search begins in another folder than the job that made the corpus."""
    (tmp_path / "clip").symlink_to(BUILTIN_FOLDER / "clip")
    monkeypatch.chdir(tmp_path)
    recorded = described(embedder="clip").models["embedder"]
    assert (recorded["name"], recorded["text_encoder"]) == ("clip", f"local-dir:{tmp_path / 'clip'}")


def test_a_corpus_is_embedded_anew_from_its_own_columns():
    there = described(bytes_column="jpg", id_column="key")
    options = _options(there, {"output": "/anew", "bytes_column": None, "id_column": None, "uri_column": "link"})
    assert (options.bytes_column, options.id_column, options.uri_column) == ("jpg", "key", "link")
    assert _options(described(), {"output": "/anew"}).id_column == "image_id"


def test_what_is_not_pooled_is_seen_once():
    def crop(**values):
        return segment_options({"input": "/in", "output": "/out", **values}).crop

    assert (crop(), crop(crop=None), crop(embedding_mode="pool")) == ("both", "both", "masked")
    assert crop(embedding_mode="pool", crop="both") == "both"
    there = described()
    assert _options(there, {"output": "/a", "embedder": "builtin"}).crop == "both"
    assert _options(there, {"output": "/a", "embedder": "builtin", "embedding_mode": "pool"}).crop == "masked"
    pooled = described(embedding_mode="pool", crop="context")
    assert _options(pooled, {"output": "/a", "embedder": "builtin", "embedding_mode": "pool"}).crop == "context"
    assert _options(pooled, {"output": "/a", "embedder": "builtin", "embedding_mode": "crop"}).crop == "both"


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("imgsz", 321, "give a multiple of 32 from 32 to 8192"),
        ("tile", 32, "give 64 or more"),
        ("conf", float("nan"), "give a number above 0 and below 1"),
        ("iou", 0.0, "give a number above 0 and at most 1"),
        ("unit_size", "many", "give a number from 1 to 10000"),
        ("device", "tpu", "give 'auto', 'cpu' or 'cuda'"),
        ("input", "", "name one"),
        ("segmenter", "", "name one"),
        ("colour", "red", "there is no such option"),
    ],
)
def test_a_wrong_option_is_told_what_to_give(name, value, remedy):
    with pytest.raises(InputError) as refused:
        segment_options({"input": "/in", "output": "/out", name: value})
    assert str(refused.value) == f"--{name.replace('_', '-')} {value}: {remedy}"


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 1e9])
def test_decoding_ends(seconds):
    with pytest.raises(InputError, match="--decode-seconds"):
        segment_options({"input": "/in", "output": "/out", "decode_seconds": seconds})


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("status", ["--corpus", "nowhere", "--recent", "-5"], "--recent -5: give 1 or more"),
        ("evaluate", ["edges", "--ground-truth", "x", "--max-distance", "inf"], "--max-distance inf: give a number"),
    ],
)
def test_numbers_out_of_range_are_refused(capsys, command, arguments, said):
    assert job(command, arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


@pytest.mark.parametrize(
    ("command", "arguments", "option", "needed"),
    [
        ("evaluate", ["edges", "--ground-truth", "x", "--edge-maps", "y", "--conf", "0.2"], "--conf", "--segmenter"),
        ("evaluate", ["edges", "--ground-truth", "x", "--edge-maps", "y", "--images", "z"], "--images", "--segmenter"),
        ("evaluate", ["speed", "--max-masks", "5"], "--max-masks", "--segmenter"),
        (
            "evaluate",
            ["regions", "--ground-truth", "x", "--prompt", "box", "--smallest"],
            "--smallest",
            "--prompt point",
        ),
        ("select", ["--image", "x", "--output", "x.json", "--point", "1,1", "--top-k", "2"], "--top-k", "--text"),
        ("select", ["--image", "x", "--output", "x.json", "--box", "1,1,2,2", "--smallest"], "--smallest", "--point"),
        ("search", ["--like", "x#1", "--min-calibrated", "0"], "--min-calibrated", "--text"),
        ("export", ["--format", "coco", "--output", "x.json", "--embedder", "builtin"], "--embedder", "--classes"),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    made_once: MadeCorpus, capsys, command, arguments, option, needed
):
    corpus = [] if "edges" in arguments else ["--corpus", made_once.uri]
    assert job(command, [*arguments, *corpus]) == 2
    said = f"error: {option} has no use without {needed}; leave it out, or give {needed}\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("value", [None, 0, 0.5, 1])
def test_a_number_in_range_is_none_to_refuse(value):
    check_range("--share", value, 0, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1, -(10**400)])
def test_a_range_without_an_end_has_finite_numbers(value):
    check_range("--many", 10**400, 0)
    with pytest.raises(InputError, match=r"--many .*: give 0 or more"):
        check_range("--many", value, 0)


def test_names_do_not_steer_the_terminal(tmp_path, capsys):
    name = tmp_path / "a\x1b]0;owned\x07\nb\u3000c"
    assert job("status", ["--corpus", str(name)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/a\ufffd]0;owned\ufffd\ufffdb\u3000c is not a corpus")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("search", ["--text", "a cup", "\udcff cup"]),
        ("select", ["--image", "\udcff.jpg", "--point", "1,1", "--output", "x.json"]),
        ("status", ["--corpus", "\udcff"]),
    ],
)
def test_arguments_that_are_no_text_are_refused(capsys, command, arguments):
    assert job(command, ["--corpus", "nowhere", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the argument '\\udcff") and said.count("\n") == 1


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_pipe_that_nobody_reads_ends_a_command_quietly(made_once: MadeCorpus, capsys, monkeypatch, buffering):
    reading, writing = os.pipe()
    os.close(reading)
    with io.TextIOWrapper(open(writing, "wb", buffering), write_through=not buffering) as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert job("status", ["--corpus", made_once.uri]) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("module", ["fastsam_batch", "fastsam_batch.cli"])
def test_the_package_runs_as_a_module(module):
    """A module that does nothing and ends well would be a job that succeeded."""
    run = [sys.executable, "-m", module]
    told = subprocess.run([*run, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"fastsam-batch {fastsam_batch.__version__}\n"
    refused = subprocess.run([*run, "verify", "--corpus", "/nowhere"], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.startswith("error: /nowhere is not a corpus")


def test_the_hub_tells_its_attempts_to_nobody():
    run = (
        "from fastsam_batch.cli import job; job('verify', ['--corpus', '/nowhere']); "
        "from huggingface_hub.utils import logging; print(logging.get_verbosity() == logging.ERROR)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_VERBOSITY"}
    told = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout == "True\n"
