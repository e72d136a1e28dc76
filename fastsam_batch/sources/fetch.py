"""One image's bytes by URI, or the error that stands in their place."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fastsam_batch.errors import OutageError
from fastsam_batch.outage import answering, behind, explain, is_answer, retry
from fastsam_batch.signatures import unsigned
from fastsam_batch.sources.base import EncodedImage, ImageRef
from fastsam_batch.storage import open_path, open_whole

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

THREADS = 16
MAX_IMAGE_BYTES = 2 * 1024**3
_NO_UTF8 = re.compile(r"\\x[0-9a-f]{2}")  # as `names.storable` writes such bytes
_NO_ENTRY = (401, 403)  # of a web server


class TooLargeError(Exception):
    """An object above MAX_IMAGE_BYTES: not read, or no further."""


class _Body(io.BytesIO):
    """What a web server sends, which need not say how much. Raises TooLargeError above MAX_IMAGE_BYTES."""

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > MAX_IMAGE_BYTES:
            raise TooLargeError
        return super().write(data)


def stored_uri(uri: str, inner: str = "") -> str:
    """The URI as a corpus may hold it, without user, password, and what signs a web address.

    `inner` names what lies in the file, from its `#` on: a member's own `?` starts no query.
    """
    return unsigned(uri) + inner


def is_refused(error: BaseException) -> bool:
    """True where a web server answers only to who is known to it."""
    return getattr(behind(error), "status", None) in _NO_ENTRY


def refusal(uri: str, error: BaseException) -> str | None:
    """What to say where a web server refuses an address that is signed, which tells nothing of the file; else None."""
    told = stored_uri(uri)
    if told == uri or not is_refused(error):
        return None
    return f"{told} was refused ({explain(error)}): what signs it may have expired; sign it anew"


def read_bytes(uri: str) -> bytes:
    """All bytes of one plain file or object, retried.

    Raises FileNotFoundError or another answer of the store, TooLargeError, or OutageError.
    """
    fs, path = open_path(uri)
    return retry(functools.partial(_read_once, fs, path))


def _read_once(fs: AbstractFileSystem, path: str) -> bytes:
    if path.startswith(("http://", "https://")):  # its client checks the length; an opening would ask twice
        with answering():
            body = _Body()
            fs.get_file(path, body)
            return body.getvalue()
    with open_whole(fs, path) as file:
        if (file.size or 0) > MAX_IMAGE_BYTES:
            raise TooLargeError
        return file.read()


def fetch_image(
    ref: ImageRef, read: Callable[[str], bytes] = read_bytes, record_unreachable: bool = False
) -> EncodedImage:
    """The image's bytes, or why there are none: `missing`, `too_large` or `unreadable`.

    Raises OutageError where the store does not answer, or refuses an address that is signed; with `record_unreachable`
    that is a kind of failure too.
    """
    uri = stored_uri(ref.uri)
    try:
        return EncodedImage(ref.image_id, uri, read(ref.uri))
    except FileNotFoundError:
        kind, message = "missing", f"{uri} does not exist"
        if _NO_UTF8.search(uri):
            message += ", or its name is not UTF-8, which cannot be stored: rename it"
    except TooLargeError:
        kind, message = "too_large", f"{uri} has more than {MAX_IMAGE_BYTES} bytes"
    except OutageError as error:
        if not record_unreachable:
            raise OutageError(f"{uri}: {explain(error)}") from error
        kind, message = "unreachable", f"{uri} could not be reached: {explain(error)}"
    except Exception as error:
        if not is_answer(error):
            raise
        kind, message = "unreadable", f"{uri} could not be read: {explain(error)}"
        if refused := refusal(ref.uri, error):
            if not record_unreachable:
                raise OutageError(refused) from error
            kind, message = "unreachable", refused
    return EncodedImage(ref.image_id, uri, None, kind, message)


def fetch_images(
    refs: Sequence[ImageRef], read: Callable[[str], bytes] = read_bytes, record_unreachable: bool = False
) -> tuple[EncodedImage, ...]:
    """All images' bytes, in order, a few at a time. Raises as `fetch_image`."""
    if not refs:
        return ()
    with ThreadPoolExecutor(min(THREADS, len(refs))) as pool:
        return tuple(pool.map(lambda ref: fetch_image(ref, read, record_unreachable), refs))
