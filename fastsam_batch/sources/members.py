"""Units that list their images: what loose files, manifests and the demo have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from fastsam_batch.sources.base import UNIT_BYTES, EncodedImage, ImageRef, PlanRow, Source, UnitBytes
from fastsam_batch.sources.fetch import fetch_images
from fastsam_batch.sources.names import unit_name


def plan_members(
    refs: Iterable[tuple[ImageRef, int | None]], *, prefix: str, shard: str, first: int, unit_size: int
) -> Iterator[PlanRow]:
    """One row a unit of up to `unit_size` images and UNIT_BYTES, where `refs` come with their sizes in bytes.

    `first` counts the members planned before.
    """
    start, held, members = first, 0, list[ImageRef]()

    def row() -> PlanRow:
        stop = start + len(members)
        return PlanRow(unit_name(prefix, start), shard, "members", start, stop, unit_size, members=tuple(members))

    for ref, size in refs:
        if members and (len(members) == unit_size or held + (size or 0) > UNIT_BYTES):
            yield row()
            start, held, members = start + len(members), 0, []
        members.append(ref)
        held += size or 0
    if members:
        yield row()


def with_uris(rows: Iterable[PlanRow], uri_of: Callable[[ImageRef], str]) -> list[PlanRow]:
    """The rows with other URIs of their members."""
    return [replace(row, members=tuple(ImageRef(ref.image_id, uri_of(ref)) for ref in row.members)) for row in rows]


class MembersSource(Source):
    """A source whose plan names every image, so that reading needs the plan's row alone."""

    record_unreachable = False

    def read(self, row: PlanRow, done: Collection[str]) -> Iterator[UnitBytes]:
        """The row's one unit, unless it is done."""
        if row.unit_id not in done:
            yield UnitBytes(row.unit_id, row.shard, False, self._fetch(row.members))

    def _fetch(self, members: tuple[ImageRef, ...]) -> tuple[EncodedImage, ...]:
        return fetch_images(members, record_unreachable=self.record_unreachable)
