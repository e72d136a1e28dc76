"""Manifests: CSV with a header, or JSON Lines, holding the URIs of images."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, Any

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import explain, is_storage_error, retry
from fastsam_batch.sources.base import ImageRef, Planned, PlanRow
from fastsam_batch.sources.fetch import stored_uri
from fastsam_batch.sources.listing import Listing
from fastsam_batch.sources.members import MembersSource, plan_members, with_uris
from fastsam_batch.sources.named import UnknownSchemeError, resolve
from fastsam_batch.sources.names import storable, suffix, unit_prefix
from fastsam_batch.sources.parquetrows import ColumnNames
from fastsam_batch.storage import open_path, open_whole


def is_manifest(key: str) -> bool:
    """True for a file name that a manifest would have."""
    return suffix(key) in (".csv", ".jsonl", ".ndjson")


class ManifestSource(MembersSource):
    """Images listed by URI. `image_id` is taken from the id column, else the URI as written, without its secrets."""

    name = "manifests"

    def __init__(self, listing: Listing, uri_column: str, id_column: str, record_unreachable: bool) -> None:
        self._listing = listing
        self._uri_column = uri_column
        self._id_column = id_column
        self.record_unreachable = record_unreachable
        self._secret: dict[str, str] | None = None  # URIs that are not stored as they are, by image_id, once read

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_secret": None}  # a task has them in its rows

    def plan(self, planned: Planned, unit_size: int, limit: int | None) -> Iterator[PlanRow]:
        """Rows whose id no plan holds yet. All manifests are read and checked before the first unit."""
        seen: dict[str, str] = {}
        new: list[tuple[str, list[ImageRef]]] = []
        self._secret = {}
        for key, uri, listed in self._manifests():
            self._secret.update(_secret(listed))
            refs = []
            for ref in listed:
                if ref.image_id in seen:
                    raise InputError(
                        f"{stored_uri(uri)} names the image {ref.image_id!r} a second time (first in "
                        f"{seen[ref.image_id]}): give each row an {self._id_column} of its own"
                    )
                seen[ref.image_id] = stored_uri(uri)
                names = {ref.image_id}
                if ref.image_id == stored_uri(ref.uri):  # ids that versions before this one made hold their secrets
                    names.add(ref.uri)
                if planned.members.isdisjoint(names):
                    refs.append(ref)
            new.append((storable(key), refs))
        if not seen:
            raise InputError(f"{self._listing} lists no images")
        first, left = len(planned.members), limit
        for key, refs in new:
            refs = list(islice(refs, left))
            unsized = ((ref, None) for ref in refs)
            yield from plan_members(unsized, prefix=unit_prefix(key), shard=key, first=first, unit_size=unit_size)
            first += len(refs)
            left = None if left is None else left - len(refs)

    def renewed(self, rows: Sequence[PlanRow]) -> Sequence[PlanRow]:
        """As `Source.renewed`: an image whose place the manifest tells otherwise now stays where it was planned."""
        if self._secret is None:
            self._secret = dict(item for _, _, listed in self._manifests() for item in _secret(listed))
        secret = self._secret

        def uri_of(ref: ImageRef) -> str:
            uri = secret.get(ref.image_id, ref.uri)
            return uri if stored_uri(uri) == stored_uri(ref.uri) else ref.uri

        return with_uris(rows, uri_of) if secret else rows

    def _manifests(self) -> Iterator[tuple[str, str, list[ImageRef]]]:
        """Key, URI and images of each manifest."""
        for entry in self._listing.take():
            if is_manifest(entry.key):
                uri = self._listing.uri_of(entry.key)
                yield entry.key, uri, self._read(uri, entry.key)

    def _read(self, uri: str, key: str) -> list[ImageRef]:
        """The manifest's images. Raises InputError, OutageError where its store keeps failing."""
        try:
            return retry(lambda: list(read_manifest(uri, key, self._uri_column, self._id_column)))
        except OutageError as error:
            raise OutageError(f"cannot read {stored_uri(uri)}: {explain(error)}") from error


def _secret(refs: Iterable[ImageRef]) -> Iterator[tuple[str, str]]:
    return ((ref.image_id, ref.uri) for ref in refs if stored_uri(ref.uri) != ref.uri)


def read_manifest(uri: str, key: str, uri_column: str, id_column: str) -> Iterator[ImageRef]:
    """The manifest's images; `key`, without what signs an address, tells CSV from JSON Lines.

    Raises InputError, naming file and line, where it cannot be read.
    """
    name = stored_uri(uri)
    try:
        fs, path = open_path(uri)
        with open_whole(fs, path) as raw:
            file = io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8-sig", newline="")
            columns = (uri_column, id_column)
            rows = _csv_rows(file, name, columns) if suffix(key) == ".csv" else _json_rows(file, name)
            named: set[str] = set()
            for line, row in rows:
                named.update(row)
                yield _image_of(row, f"{name} line {line}", uri, uri_column, id_column)
            if named and id_column not in {ColumnNames().id, *named}:
                found = ", ".join(sorted(named))
                raise InputError(f"{name} has no column {id_column!r}: its columns are {found}; mend --id-column")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text: save it as UTF-8") from error
    except OutageError:
        raise
    except Exception as error:
        if not is_storage_error(error):
            raise
        raise InputError(f"cannot read {name}: {explain(error)}") from error


def _image_of(row: dict[str, Any], place: str, container: str, uri_column: str, id_column: str) -> ImageRef:
    """The image that a manifest's row names. Raises InputError, which begins with the row's place."""
    written, image_id = row.get(uri_column), row.get(id_column)
    if written in (None, ""):
        found = ", ".join(map(str, row))
        raise InputError(
            f"{place} has no {uri_column!r} (it has {found or 'nothing'}): "
            "fill it in, or name the column with --uri-column"
        )
    if not isinstance(written, str):
        raise InputError(f"{place} has {json.dumps(written)[:40]} for its {uri_column!r}: write text")
    image_id = stored_uri(written) if image_id in (None, "") else str(image_id)
    if not _is_text(written + image_id):
        raise InputError(f"{place} holds half a surrogate pair, which is no character: write it as UTF-8")
    try:
        return ImageRef(storable(image_id), resolve(written, container))
    except UnknownSchemeError as error:
        raise InputError(f"{place} {error}") from error


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv_rows(file: IO[str], name: str, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(file, strict=True, skipinitialspace=True)
    try:
        columns = list(reader.fieldnames or ())
        if len(columns) == 1 and (other := re.search(r"[;\t|]", columns[0])):  # Excel's, in many countries
            raise InputError(f"{name} line 1 separates its columns by {other[0]!r}: save it with commas")
        if twice := [column for column in needed if columns.count(column) > 1]:
            raise InputError(f"{name} line 1 names the column {twice[0]!r} twice: give each a name of its own")
        for row in reader:
            if None in row:
                raise InputError(f"{name} line {reader.line_num} has more fields than the header: quote commas")
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{name} line {reader.line_num} is not CSV: {error}") from error


def _json_rows(file: IO[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # an integer of thousands of digits is a plain ValueError
            raise InputError(f"{name} line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{name} line {number} is not a JSON object: write one object a line")
        yield number, row
