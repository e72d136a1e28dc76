"""Tar shards, WebDataset style: read once as a stream, cut into units on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import ATTEMPTS, explain, is_answer, pause
from fastsam_batch.sources.base import EncodedImage, Planned, PlanRow, Source, UnitBytes
from fastsam_batch.sources.fetch import MAX_IMAGE_BYTES, refusal, stored_uri
from fastsam_batch.sources.listing import Entry, Listing
from fastsam_batch.sources.names import shard_key, storable, unit_name, unit_prefix
from fastsam_batch.sources.tarstream import BrokenTarError, TarImage, stream_images
from fastsam_batch.storage import open_path, open_whole

BROKEN_MEMBER = "#broken"
BROKEN_KIND = "broken_shard"


def is_tar(key: str) -> bool:
    """True for a file name that a shard would have."""
    return key.lower().endswith((".tar", ".tar.gz", ".tgz"))


class TarSource(Source):
    """Tar shards. `image_id` is `<shard key>/<member name>`, `uri` is `<shard uri>#<member name>`.

    A shard that breaks off keeps its images up to there, and one more entry, `<shard key>/#broken` of kind
    `broken_shard`, counts as its last image.
    """

    name = "tar shards"

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def plan(self, planned: Planned, unit_size: int, limit: int | None) -> Iterator[PlanRow]:
        """One row a shard. Shards are opened only where a limit asks how many images they hold."""
        self.check(planned)
        left = limit
        for entry in self._listing.take():
            if not is_tar(entry.key) or left == 0:
                continue
            key = shard_key(entry.key)
            start = planned.stops.get(key, 0)
            if key in planned.untouched and _has_changed(entry, planned):
                start = 0  # mended: its row comes anew
            if start is None:
                continue
            stop = images = None
            if left is not None:
                found = self._count(key, start + left + 1)
                if start and found <= start:
                    continue
                if found > start + left:
                    stop, left = start + left, 0
                else:
                    images = found - start
                    left -= images
            yield PlanRow(unit_prefix(key), key, "stream", start, stop, unit_size, entry.size, images=images)

    def check(self, planned: Planned) -> None:
        """As `Source.check`."""
        refuse_changed(self._listing, planned)

    def read(self, row: PlanRow, done: Collection[str]) -> Iterator[UnitBytes]:
        """The shard's units in order; only the bytes of the one being filled are held."""

        def unit_of(index: int) -> str:
            return unit_name(row.unit_id, index - (index - row.start) % row.unit_size)

        def wanted(index: int) -> bool:
            return index >= row.start and unit_of(index) not in done

        def first_open(index: int) -> int:
            while unit_of(index) in done:
                index += row.unit_size
            return index

        unit_id = unit_name(row.unit_id, row.start)
        images: list[EncodedImage] = []
        emitted = False
        with closing(self._images(row.shard, wanted, row.stop)) as stream:
            for index, image in stream:
                if image is not None and image.error_kind == BROKEN_KIND:
                    index = max(index, row.start)
                    if emitted or unit_id not in done:
                        image = image if wanted(index) else None
                    else:
                        # Nothing but done units, yet the shard is not finished: it was whole further before.
                        index = first_open(index)
                if index >= row.start and unit_of(index) != unit_id:
                    if unit_id not in done:
                        emitted = True
                        yield UnitBytes(unit_id, row.shard, False, tuple(images))
                    unit_id, images = unit_of(index), []
                if image is not None:
                    images.append(image)
        if unit_id not in done:
            yield UnitBytes(unit_id, row.shard, True, tuple(images))

    def _count(self, key: str, enough: int) -> int:
        """Images of a shard, its broken end included, by its headers; counted up to `enough`."""
        with closing(self._images(key, lambda index: False, enough)) as stream:
            return sum(1 for _ in stream)

    def _images(
        self, key: str, wanted: Callable[[int], bool], stop: int | None
    ) -> Generator[tuple[int, EncodedImage | None], None, None]:
        """Every image before `stop` with its index; None in place of those that are not wanted.

        Where reading fails for the moment, the shard is opened anew and passed over up to where it was. Raises
        OutageError where the store keeps failing.
        """
        uri = self._listing.uri_of(key)
        position = failures = 0
        while True:
            try:
                fs, path = open_path(uri)
                with open_whole(fs, path) as file:
                    for index, member in enumerate(stream_images(file)):
                        if index == stop:
                            return
                        if index >= position:
                            yield index, self._load(key, uri, member, wanted(index))
                            position, failures = index + 1, 0
                return
            except BrokenTarError as error:
                reason = str(error)
            except OutageError as error:
                failures += 1
                if failures == ATTEMPTS:
                    raise OutageError(f"{stored_uri(uri)}: {explain(error)}") from error
                pause(failures)
                continue
            except Exception as error:
                if not is_answer(error):
                    raise
                if refused := refusal(uri, error):
                    raise OutageError(refused) from error
                reason = explain(error)
            if stop is None or position < stop:
                yield position, _broken(key, uri, position, reason)
            return

    def _load(self, key: str, uri: str, member: TarImage, wanted: bool) -> EncodedImage | None:
        if not wanted:
            member.skip()
            return None
        image_id, member_uri = f"{key}/{member.name}", stored_uri(uri, f"#{member.name}")
        if member.unread:
            return EncodedImage(image_id, member_uri, None, "unsupported", f"{member_uri} {member.unread}")
        if member.size > MAX_IMAGE_BYTES:
            member.skip()
            message = f"{member_uri} has {member.size} bytes, more than the {MAX_IMAGE_BYTES} allowed"
            return EncodedImage(image_id, member_uri, None, "too_large", message)
        return EncodedImage(image_id, member_uri, member.load())


def _broken(key: str, uri: str, images: int, reason: str) -> EncodedImage:
    message = f"the tar shard {stored_uri(uri)} is broken after {images} images: {reason}"
    image_id, member_uri = f"{key}/{BROKEN_MEMBER}", stored_uri(uri, BROKEN_MEMBER)
    return EncodedImage(image_id, member_uri, None, BROKEN_KIND, message)


def refuse_changed(listing: Listing, planned: Planned) -> None:
    """Raises InputError where a shard's size is not what it was when it was planned, and units of it are committed."""
    for entry in listing.entries():
        key = storable(entry.key)
        if key not in planned.untouched and _has_changed(entry, planned):
            raise InputError(
                f"{stored_uri(listing.uri_of(entry.key))} changed since it was planned ({planned.sizes[key]} bytes "
                f"then, {entry.size} now): put new images into new shards, or start a new output"
            )


def _has_changed(entry: Entry, planned: Planned) -> bool:
    """Whether a shard has another size than when it was planned; False where either is not known."""
    return entry.size is not None and planned.sizes.get(storable(entry.key), entry.size) != entry.size
