"""Decoding in a child process: the same pixels, and a row for what kills or hangs the child."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys
import time

import numpy as np
import pytest
from photographs import photographs
from PIL import Image

from fastsam_batch.images import ImageError
from fastsam_batch.isolate import IsolatedDecoder

READY = "import os, signal, sys, time; print(flush=True); "
READS_THEN = READY + "sys.stdin.buffer.read(8); "


def encoded(name):
    buffer = io.BytesIO()
    Image.fromarray(photographs()[name]).save(buffer, "PNG")
    return buffer.getvalue()


def test_pixels_and_errors_come_through():
    with IsolatedDecoder() as decoder:
        np.testing.assert_array_equal(decoder.decode(encoded("coffee"), 10**8), photographs()["coffee"])
        with pytest.raises(ImageError) as failed:
            decoder.decode(b"no image", 10**8)
        assert failed.value.kind == "not_an_image"
        np.testing.assert_array_equal(decoder.decode(encoded("rocket"), 10**8), photographs()["rocket"])


@pytest.mark.parametrize(
    "end",
    [
        "os.abort()",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "sys.exit(0)",
    ],
)
def test_a_child_that_dies_is_a_crashed_image(end):
    with IsolatedDecoder(command=[sys.executable, "-c", READS_THEN + end]) as decoder:
        for _ in range(2):  # the second is given a child of its own
            with pytest.raises(ImageError, match="ended its process with status") as failed:
                decoder.decode(encoded("coffee"), 10**8)
            assert failed.value.kind == "crashed"


def test_a_child_that_hangs_is_stopped():
    began = time.monotonic()
    with IsolatedDecoder(0.5, [sys.executable, "-c", READY + "time.sleep(100)"]) as decoder:
        with pytest.raises(ImageError) as failed:
            decoder.decode(b"x", 10**8)
        assert failed.value.kind == "timeout"
    assert time.monotonic() - began < 20


def test_a_child_that_begins_slowly_takes_none_of_an_image_s_time(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text("import time; time.sleep(1); from fastsam_batch.images import decode_image")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FASTSAM_BATCH_DECODER", "slow:decode_image")
    with IsolatedDecoder(0.5) as decoder:
        assert decoder.decode(encoded("rocket"), 10**8).shape == photographs()["rocket"].shape


def test_a_child_that_cannot_begin_is_no_fault_of_an_image():
    ends = [sys.executable, "-c", "raise SystemExit(3)"]
    with IsolatedDecoder(command=ends) as decoder, pytest.raises(RuntimeError, match=r"did not begin \(status 3\)"):
        decoder.decode(encoded("rocket"), 10**8)


def test_in_a_process_of_many_open_files():
    """select takes no file whose number is above 1023."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2048), before[1]))
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(1100):
                stack.enter_context(open(os.devnull, "rb"))
            with IsolatedDecoder() as decoder:
                assert decoder.decode(encoded("rocket"), 10**8).shape == photographs()["rocket"].shape
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
