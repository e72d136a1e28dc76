"""URIs that a manifest or a Parquet column names: resolved, and kept to stores of images."""

from __future__ import annotations

import posixpath

# fsspec knows many more schemes, and some of them read programs, archives or chains of other schemes. Whoever
# writes a manifest may not know the machine that reads it: only plain stores are followed.
SCHEMES = frozenset(
    ["abfs", "abfss", "adl", "az", "file", "gcs", "gs", "hf", "http", "https", "local", "memory", "s3", "s3a"]
)


class UnknownSchemeError(ValueError):
    """A named URI whose scheme is not one of SCHEMES, nor that of the file that names it."""


def resolve(written: str, container: str) -> str:
    """A URI as written in a file, relative ones against that file's folder. Raises UnknownSchemeError."""
    if written.startswith(("/", "file:/")):  # Hadoop and Spark write file:/a/b
        return written
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
