"""URIs that a manifest or a Parquet column names: resolved, and kept to stores of images."""

from __future__ import annotations

import os
import posixpath
import re
from urllib.parse import unquote

# fsspec knows many more schemes, and some of them read programs, archives or chains of other schemes. Whoever
# writes a manifest may not know the machine that reads it: only plain stores are followed.
SCHEMES = frozenset(
    ["abfs", "abfss", "adl", "az", "file", "gcs", "gs", "hf", "http", "https", "local", "memory", "s3", "s3a"]
)


class UnknownSchemeError(ValueError):
    """A named URI whose scheme is not one of SCHEMES, nor that of the file that names it."""


def resolve(written: str, container: str) -> str:
    """A URI as written in a file, relative ones against that file's folder. Raises UnknownSchemeError."""
    if written.startswith("/"):
        return written
    if written.startswith("file:/"):  # Hadoop and Spark write file:/a/b
        return _unquoted(written)
    scheme, separator, rest = written.partition("://")
    if separator:
        if scheme.lower() in SCHEMES:
            return f"{scheme.lower()}://{rest}"
        if scheme != container.partition("://")[0]:
            raise UnknownSchemeError(
                f"names {scheme}://, which is not followed from a file; use one of {', '.join(sorted(SCHEMES))}"
            )
        return written
    folder = container.partition("?")[0] if container.startswith("http") else container
    scheme, separator, path = folder.rpartition("://")
    return scheme + separator + posixpath.normpath(posixpath.join(posixpath.dirname(path), written))


def _unquoted(uri: str) -> str:
    """A local file's URI with its name as the file has it: Python's `Path.as_uri` writes %20 for a space."""
    path = re.sub("^file:(//)?", "", uri)
    plain = unquote(path)
    return f"file://{plain}" if plain != path and not os.path.lexists(path) and os.path.lexists(plain) else uri
