"""Where bytes live: fsspec paths, and writes that are either whole or absent."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from fastsam_batch.errors import InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_COPIED_AT_ONCE = 8 << 20


def filesystem(uri: str) -> tuple[AbstractFileSystem, str]:
    """Filesystem and path of a URI (a local path, file://, s3://, gs://, http(s)://, memory://).

    Raises InputError for a scheme that no installed fsspec backend serves. Credentials come from the
    environment only; the S3 endpoint from AWS_ENDPOINT_URL, which botocore reads itself.
    """
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise InputError(f"cannot open {redact(uri)}: {error}") from error
    return fs, path


def redact(uri: str) -> str:
    """The URI without user, password or a web address's query, fit for logs, errors and stored files."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    authority, slash, path = rest.partition("/")
    if scheme in ("http", "https"):
        path = path.partition("?")[0]
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def join(uri: str, *parts: str) -> str:
    """`uri` with `parts` behind it, one slash between each."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def is_local(fs: AbstractFileSystem) -> bool:
    """True where paths are files of this machine."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return protocol in ("file", "local")


def write_atomic(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """Put `data` at `path` so that a reader sees all of it or nothing, replacing what was there.

    An object store publishes an object when its upload completes; a local file is written beside its
    name, synced, and renamed.
    """
    if not is_local(fs):
        fs.pipe_file(path, data)
        return
    with _renamed_when_whole(path) as file:
        file.write(data)


def write_result(uri: str, data: bytes) -> None:
    """Put a file that the user asked for at `uri`, whole. Raises InputError where it cannot be written."""
    with open_result(uri) as file:
        file.write(data)


@contextmanager
def open_result(uri: str) -> Iterator[IO[bytes]]:
    """A file that the user asked for, to be written bit by bit: at `uri` when the block ends, whole, or not at all.

    For an object store it lies on the local disk until then. Raises InputError where it cannot be written.
    """
    fs, path = filesystem(uri)
    try:
        if is_local(fs):
            with _renamed_when_whole(path) as file:
                yield file
            return
        with tempfile.TemporaryFile() as local:
            yield local
            local.seek(0)
            with fs.open(path, "wb") as remote:
                shutil.copyfileobj(local, remote, _COPIED_AT_ONCE)
    except OSError as error:
        raise InputError(f"cannot write {redact(uri)}: {error.strerror or error}") from error


@contextmanager
def _renamed_when_whole(path: str) -> Iterator[IO[bytes]]:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
