"""Tells a store that fails for now from an answer about a file, and tries again while it fails.

A store's answer ("there is no such file", "that is a folder") holds for every reader, so it may be recorded as an
image's result. An outage (an error of the server, a connection cut or silent, a body shorter than its object, expired
credentials) says nothing about the image and must never be recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from fastsam_batch.errors import InputError, OutageError, first_line

ATTEMPTS = 4
PAUSE_S = 0.5

# Clients of object stores raise classes of their own; named by package, so that none must be installed.
_CLIENTS = {"botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "requests", "urllib3", "paramiko"}
_CLIENTS |= {"huggingface_hub", "httpx", "httpx2", "httpcore"}
_ANSWERS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError)
_ANSWERS_BY_NUMBER = {errno.ENAMETOOLONG, errno.ELOOP}
_LOCAL_ANSWERS = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.EILSEQ, errno.EROFS}
_PASSING_STATUS = {408, 425, 429}  # of a web server: too slow, too early, too many requests

T = TypeVar("T")


def is_storage_error(error: BaseException) -> bool:
    """True for what a file system or an object store's client raises when it cannot read or write."""
    if isinstance(error, (OSError, TimeoutError, asyncio.TimeoutError)):
        return True
    return any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__)


def behind(error: BaseException) -> BaseException:
    """What a store said: fsspec's client of the web raises FileNotFoundError for whatever kept it from a file."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:
        of_web = type(cause).__module__.partition(".")[0] == "aiohttp"
        return cause if of_web or isinstance(cause, (TimeoutError, asyncio.TimeoutError)) else error
    return error


def is_answer(error: BaseException) -> bool:
    """True where the error tells something lasting about the file that was asked for.

    A file system's refusal is one. An object store's is none: it refuses in the same words when credentials expire.
    """
    error = behind(error)
    if isinstance(error, OutageError):
        return False
    if isinstance(error, (InputError, *_ANSWERS)):
        return True
    if isinstance(error, OSError) and error.errno in _ANSWERS_BY_NUMBER:
        return True
    if isinstance(error, OSError) and error.filename is not None:  # only a file system names the file
        return error.errno in _LOCAL_ANSWERS
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status < 500 and status not in _PASSING_STATUS
    # Addresses that no client could ask for.
    return isinstance(error, ValueError) or type(error).__name__ == "ParamValidationError"


def is_outage(error: BaseException) -> bool:
    """True for what a store's client raises while Arrow reads from it: nothing is known of the file.

    Arrow's own OSErrors, of damaged files, have no number and no cause.
    """
    if isinstance(error, OSError) and error.errno is None and error.__cause__ is None:
        return isinstance(error, OutageError)
    return is_storage_error(error) and not is_answer(error)


def is_refusal(error: BaseException | None) -> bool:
    """True where a store says no to who asks: credentials are missing, wrong or not enough.

    They may have expired, so this is no answer about a file; but the same command, run again, will not help.
    """
    while error is not None:
        if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
            return True
        error = error.__cause__
    return False


def code_of(error: BaseException) -> str | None:
    """The code an S3 server gave for an error."""
    response = getattr(error.__cause__, "response", None)
    return response["Error"].get("Code") if response else None


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Around every touch of a store: what is no answer becomes an OutageError with its reason."""
    try:
        yield
    except OutageError:
        raise
    except Exception as error:
        if is_storage_error(error) and not is_answer(error):
            raise OutageError(explain(error)) from error
        raise


def pause(failures: int) -> None:
    """Wait before the next attempt, twice as long after each failure, spread so that tasks do not come back as one."""
    time.sleep(PAUSE_S * 2 ** (failures - 1) * random.uniform(0.75, 1.25))


def retry(call: Callable[[], T]) -> T:
    """The call's result, tried up to ATTEMPTS times while it raises OutageError."""
    for failures in range(1, ATTEMPTS):
        try:
            return call()
        except OutageError:
            pause(failures)
    return call()


def explain(error: BaseException) -> str:
    """The error in a line, without credentials and without the signatures of web addresses."""
    told = behind(error)
    said = str(told).removeprefix("Parameter validation failed:\n")  # botocore's heading of what it does not take
    text = first_line(said or told, most=None)  # cut off, a password would not be known for one
    text = re.sub(r"(\w+://)[^/\s@'\"]*@", r"\1", text)
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\")]+", r"\1", text, flags=re.IGNORECASE)


class WholeFile(io.RawIOBase):
    """A binary file of any store, read to its end or not at all.

    The store's failures come out as OutageError, and so does an end before the size that the store told: a cut
    body is not taken for a cut file. What a reader of formats raises is then about the bytes.
    """

    def __init__(self, file: Any) -> None:
        """`file` is open for reading, and closed by whoever opened it."""
        self._file = file
        size = getattr(file, "size", None)
        self.size: int | None = size if isinstance(size, int) else None

    def read(self, count: int | None = -1) -> bytes:
        """`count` bytes, fewer only at the end of the file; all that is left for -1."""
        wanted = -1 if count is None else count
        pieces: list[bytes] = []
        got = 0
        while wanted < 0 or got < wanted:
            with answering():
                piece = self._file.read(wanted - got if wanted >= 0 else -1)
            if not piece:
                break
            pieces.append(piece)
            got += len(piece)
        if (wanted < 0 or got < wanted) and self.size is not None and self.tell() < self.size:
            raise OutageError(f"the store sent {self.tell()} of {self.size} bytes")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: Any) -> int:
        """As any raw file's."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """All bytes from here to the end."""
        return self.read(-1)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As any file's."""
        position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        """As any file's."""
        position: int = self._file.tell()
        return position

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """What the store's own file says."""
        return bool(self._file.seekable())
