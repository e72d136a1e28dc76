"""Which kind of input a URI names."""

from __future__ import annotations

from collections.abc import Iterable

from fastsam_batch.errors import InputError
from fastsam_batch.sources.base import PlanRow, Source
from fastsam_batch.sources.demo import SCHEME, DemoSource
from fastsam_batch.sources.folder import FolderSource, is_image
from fastsam_batch.sources.listing import Listing
from fastsam_batch.sources.manifest import ManifestSource, is_manifest
from fastsam_batch.sources.parquet import ParquetSource, is_parquet
from fastsam_batch.sources.parquetrows import ColumnNames
from fastsam_batch.sources.tar import TarSource, is_tar
from fastsam_batch.storage import redact

_KINDS = "images, tar shards (.tar, .tar.gz, .tgz), Parquet files or manifests (.csv, .jsonl, .ndjson)"


def open_source(
    input_uri: str,
    *,
    bytes_column: str = "bytes",
    uri_column: str = "uri",
    id_column: str = "image_id",
    record_unreachable: bool = False,
) -> Source:
    """The source an input names: a folder, a glob, or one file, anywhere fsspec reads; or `demo:`.

    A folder or glob that holds images is taken for loose images, Parquet and manifests beside them for
    labels; else its tar shards are read, else its Parquet files, else its manifests. Raises InputError
    where nothing is there, nothing of it can be read, or images and tar shards lie side by side.
    `record_unreachable`: an image of its own file or URI whose store does not give it is a failed one, not an outage.
    """
    if input_uri.startswith(SCHEME):
        if input_uri != SCHEME:
            raise InputError(f"{input_uri} is not an input: the demo corpus is {SCHEME}")
        return DemoSource()
    listing = Listing(input_uri)
    keys = [entry.key for entry in listing.entries()]
    images = sum(map(is_image, keys))
    shards = sum(map(is_tar, keys))
    if images and shards:
        raise InputError(
            f"{listing} holds both images ({images}) and tar shards ({shards}): name one kind by a glob, "
            "such as '*.tar'"
        )
    if images:
        return FolderSource(listing, record_unreachable)
    if shards:
        return TarSource(listing)
    if any(map(is_parquet, keys)):
        return ParquetSource(listing, ColumnNames(bytes_column, uri_column, id_column), record_unreachable)
    if any(map(is_manifest, keys)):
        return ManifestSource(listing, uri_column, id_column, record_unreachable)
    if listing.is_file:
        raise InputError(f"{listing} is none of what can be read: {_KINDS}")
    raise InputError(f"{listing} holds no {_KINDS}")


def refuse_another_kind(input_uri: str, source: Source, rows: Iterable[PlanRow]) -> None:
    """Raise InputError where stored rows were planned from another kind of input than is found there now.

    The source would find nothing of them, or nonsense, and their units would count as done.
    """
    for row in rows:
        if row.source != source.name:
            raise InputError(
                f"{redact(input_uri)}: the corpus was planned from the {row.source} in it, and what lies there now "
                f"would be read as {source.name}: take out what was added since, or make another corpus"
            )
