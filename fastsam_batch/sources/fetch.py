"""One image's bytes by URI, and the one place that retries and names what went wrong."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from fastsam_batch.sources.base import EncodedImage, ImageRef
from fastsam_batch.storage import filesystem, is_local, redact

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ATTEMPTS = 3
PAUSE_S = 0.5
THREADS = 16
MAX_IMAGE_BYTES = 2 * 1024**3

# Clients of object stores raise classes of their own; named by package, so that none must be installed.
_CLIENTS = {
    "botocore",
    "aiobotocore",
    "aiohttp",
    "gcsfs",
    "google",
    "azure",
    "requests",
    "urllib3",
    "paramiko",
}
_LASTING = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)

T = TypeVar("T")


class TooLargeError(Exception):
    """An object above MAX_IMAGE_BYTES: not read at all."""


def open_path(uri: str) -> tuple[AbstractFileSystem, str]:
    """As storage.filesystem, but names may hold any character: fsspec reads `::` and `~` as its own."""
    if "://" in uri or uri.startswith("file:"):
        head, separator, rest = uri.partition("::")
        fs, path = filesystem(head)
        return fs, path + separator + rest
    fs, _ = filesystem("file:///")
    return fs, os.path.abspath(uri)


def stored_uri(uri: str) -> str:
    """The URI as a corpus may hold it: without user, password, and the query that signs a web address."""
    authority = uri.partition("://")[2].partition("/")[0]
    return redact(uri) if "@" in authority or uri.startswith(("http://", "https://")) else uri


def is_storage_error(error: BaseException) -> bool:
    """True for what a file system or an object store's client raises when it cannot read."""
    if isinstance(error, (OSError, TimeoutError, asyncio.TimeoutError)):
        return True
    return any(kind.__module__.partition(".")[0] in _CLIENTS for kind in type(error).__mro__)


def may_pass(error: BaseException) -> bool:
    """True where another attempt may succeed."""
    return is_storage_error(error) and not isinstance(error, _LASTING)


def pause(failures: int) -> None:
    """Wait before the next attempt, twice as long after each failure."""
    time.sleep(PAUSE_S * 2 ** (failures - 1))


def retry(call: Callable[[], T]) -> T:
    """The call's result, tried up to ATTEMPTS times while its failure may pass."""
    for failures in range(1, ATTEMPTS):
        try:
            return call()
        except Exception as error:
            if not may_pass(error):
                raise
            pause(failures)
    return call()


def explain(error: BaseException) -> str:
    """The error in a line, without credentials and without the signatures of web addresses."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    text = re.sub(r"(\w+://)[^/\s@'\"]*@", r"\1", text)
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\")]+", r"\1", text)


def read_bytes(uri: str) -> bytes:
    """All bytes of one plain file or object, retried.

    Raises FileNotFoundError, TooLargeError, or what the store raised last.
    """
    fs, path = open_path(uri)
    return retry(functools.partial(_read_once, fs, path))


def _read_once(fs: AbstractFileSystem, path: str) -> bytes:
    if is_local(fs) and fs.size(path) > MAX_IMAGE_BYTES:  # elsewhere the size would cost a request an image
        raise TooLargeError
    data: bytes = fs.cat_file(path)
    return data


def fetch_image(ref: ImageRef, read: Callable[[str], bytes] = read_bytes) -> EncodedImage:
    """The image's bytes, or why there are none: `missing`, `too_large` or `unreadable`."""
    uri = stored_uri(ref.uri)
    try:
        return EncodedImage(ref.image_id, uri, read(ref.uri))
    except FileNotFoundError:
        kind, message = "missing", f"{uri} does not exist"
    except TooLargeError:
        kind, message = "too_large", f"{uri} has more than {MAX_IMAGE_BYTES} bytes"
    except Exception as error:  # noqa: BLE001 - whatever one image's store raises must not end the others
        kind, message = "unreadable", f"{uri} could not be read: {explain(error)}"
    return EncodedImage(ref.image_id, uri, None, kind, message)


def fetch_images(refs: Sequence[ImageRef], read: Callable[[str], bytes] = read_bytes) -> tuple[EncodedImage, ...]:
    """All images' bytes, in order, a few at a time."""
    if not refs:
        return ()
    with ThreadPoolExecutor(min(THREADS, len(refs))) as pool:
        return tuple(pool.map(lambda ref: fetch_image(ref, read), refs))
