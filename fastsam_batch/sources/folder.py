"""Loose image files below a folder, matched by a glob, or one alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from fastsam_batch.errors import InputError
from fastsam_batch.images import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from fastsam_batch.sources.base import ImageRef, Planned, PlanRow
from fastsam_batch.sources.listing import Listing
from fastsam_batch.sources.members import MembersSource, plan_members, with_uris
from fastsam_batch.sources.names import storable, suffix


def is_image(key: str) -> bool:
    """True for a file name that an image would have, of a kind that is read here or not."""
    return suffix(key) in IMAGE_SUFFIXES | FOREIGN_SUFFIXES


class FolderSource(MembersSource):
    """Every image below the input. `image_id` is the path relative to it, with forward slashes."""

    def __init__(self, listing: Listing, record_unreachable: bool = False) -> None:
        self._listing = listing
        self.record_unreachable = record_unreachable

    def plan(self, planned: Planned, unit_size: int, limit: int | None) -> Iterator[PlanRow]:
        """Files that no plan holds yet, in the order of their keys. Raises InputError where two would have one."""
        entries = [entry for entry in self._listing.take() if is_image(entry.key)]
        escaped = {name for entry in entries if (name := storable(entry.key)) != entry.key}
        if twice := next((entry.key for entry in entries if entry.key in escaped), None):
            raise InputError(f"{self._listing} holds {twice} twice: one has a name that is not UTF-8; rename it")
        found = ((storable(entry.key), entry.size) for entry in entries)
        new = ((ImageRef(key, self._listing.uri_of(key)), size) for key, size in found if key not in planned.members)
        yield from plan_members(
            islice(new, limit), prefix="files", shard="", first=len(planned.members), unit_size=unit_size
        )

    def renewed(self, rows: Sequence[PlanRow]) -> Sequence[PlanRow]:
        """As `Source.renewed`: the secrets are the input's own."""
        return with_uris(rows, lambda ref: self._listing.with_secrets(ref.uri)) if self._listing.has_secrets else rows
