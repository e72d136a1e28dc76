"""One image's bytes again, by the URI that a corpus stores."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator

from fastsam_batch.errors import InputError
from fastsam_batch.outage import retry
from fastsam_batch.sources.demo import SCHEME, read_demo
from fastsam_batch.sources.fetch import read_bytes
from fastsam_batch.sources.parquetrows import ColumnNames, read_rows
from fastsam_batch.sources.tarstream import BrokenTarError, stream_images
from fastsam_batch.storage import is_local, open_path, open_whole

# A web address may ask for its file by a query.
_CONTAINER = re.compile(r"\.(?:tar|tar\.gz|tgz|parquet)(?:\?[^#]*)?#", re.IGNORECASE)


def read_image_bytes(uri: str, *, bytes_column: str = "bytes") -> bytes:
    """Bytes of the image at a file or object, `demo:<name>`, `<tar>#<member>` or `<parquet>#<row>`.

    A tar is read from its front up to the member. Raises FileNotFoundError where file, member or row does
    not exist, and OSError where it cannot be read.
    """
    if uri.startswith(SCHEME):
        return read_demo(uri)
    fs, path = open_path(uri)
    if not (is_local(fs) and fs.isfile(path)):  # a local file's own name may look like a member's
        for container, inner in splits(uri):
            with contextlib.suppress(FileNotFoundError):
                return _read_inner(container, inner, bytes_column)
    return read_bytes(uri)


def splits(uri: str) -> Iterator[tuple[str, str]]:
    """Container and member, or row, that a URI may mean, the shortest container first; none for a plain file."""
    for match in _CONTAINER.finditer(uri):
        yield uri[: match.end() - 1], uri[match.end() :]


def holds_rows(container: str) -> bool:
    """Whether a container of `splits` is a Parquet file, not a tar."""
    return container.partition("?")[0].lower().endswith(".parquet")


def _read_inner(container: str, inner: str, bytes_column: str) -> bytes:
    if holds_rows(container):
        return _read_row(container, inner, bytes_column)
    try:
        return retry(functools.partial(_read_member, container, inner))
    except BrokenTarError as error:
        raise OSError(f"{container} is broken before {inner}: {error}") from error


def _read_member(container: str, inner: str) -> bytes:
    fs, path = open_path(container)
    with open_whole(fs, path) as file:
        for image in stream_images(file):
            if image.name == inner:
                return image.load()
    raise FileNotFoundError(f"{container} holds no image {inner}")


def _read_row(container: str, inner: str, bytes_column: str) -> bytes:
    import pyarrow as pa

    if not inner.isdecimal():
        raise FileNotFoundError(f"{container} holds no row {inner}")
    try:
        columns = ColumnNames(bytes=bytes_column)
        rows = retry(lambda: read_rows(container, int(inner), int(inner) + 1, columns))
    except (InputError, pa.ArrowException) as error:
        raise OSError(f"{container} cannot be read: {error}") from error
    if not rows or rows[0].data is None:
        raise FileNotFoundError(f"{container} holds no bytes in row {inner}")
    return rows[0].data
