"""Decode in a process of its own, so that bytes that kill or hang their decoder end as a failed image."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.decoder import decoder
from fastsam_batch.images import ImageError

SECONDS_AN_IMAGE = 60.0
SECONDS_TO_BEGIN = 120.0  # a child's, on a machine that is busy
TRIES = 2  # a child may also be killed, or starved, by what has nothing to do with its image


class IsolatedDecoder:
    """A child process that decodes image after image, replaced when it dies or hangs."""

    def __init__(
        self, seconds: float = SECONDS_AN_IMAGE, command: Sequence[str] = (sys.executable, "-m", __name__)
    ) -> None:
        self._seconds = seconds
        self._command = command
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def decode(self, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
        """As `images.decode_image`; ImageError kinds `crashed` and `timeout` besides its own.

        Those two only where a second child ends the same way. Raises RuntimeError where no child can begin.
        """
        for _ in range(TRIES - 1):
            try:
                return self._decode(data, max_pixels)
            except ImageError as error:
                if error.kind not in ("crashed", "timeout"):
                    raise
        return self._decode(data, max_pixels)

    def _decode(self, data: bytes, max_pixels: int) -> NDArray[np.uint8]:
        child = self._child or self._begin()
        assert child.stdin is not None and child.stdout is not None
        try:
            _send(child.stdin, (data, max_pixels))
            if not wait([child.stdout.fileno()], self._seconds):
                self._stop()
                raise ImageError("timeout", f"decoding took more than {self._seconds:g} s")
            answer = _receive(child.stdout)
        except (BrokenPipeError, EOFError):
            code = child.wait()
            self._stop()
            raise ImageError("crashed", f"decoding ended its process with status {code}") from None
        if isinstance(answer, Exception):
            raise answer
        pixels: NDArray[np.uint8] = answer
        return pixels

    def _begin(self) -> subprocess.Popen[bytes]:
        """A child that is ready: how long it takes to begin, and whether it can, is no property of an image."""
        self._child = child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        if wait([child.stdout.fileno()], SECONDS_TO_BEGIN):
            if child.stdout.read(1):
                return child
            child.wait()
        self._stop()
        raise RuntimeError(f"the process that decodes did not begin (status {child.returncode})")

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def _send(pipe: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value, protocol=5)
    pipe.write(struct.pack("<Q", len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    (length,) = struct.unpack("<Q", _exactly(pipe, 8))
    return pickle.loads(_exactly(pipe, length))


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _serve() -> None:
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    decode = decoder()
    answers.write(b"\n")  # ready
    answers.flush()
    while True:
        try:
            data, max_pixels = _receive(requests)
        except EOFError:
            return
        try:
            answer: Any = decode(data, max_pixels)
        except Exception as error:  # noqa: BLE001 - handed to the parent, which raises it
            answer = error
        _send(answers, answer)


if __name__ == "__main__":
    _serve()
