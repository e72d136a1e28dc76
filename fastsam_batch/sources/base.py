"""What a source is: it plans units of images, and reads the bytes of a planned unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

# Encoded bytes that a unit holds at most where sizes are known when it is planned, but never fewer than one image.
UNIT_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class ImageRef:
    """One planned image: its id within the corpus and the URI of its bytes."""

    image_id: str
    uri: str


@dataclass(frozen=True)
class PlanRow:
    """One stored row of the plan.

    `members`: one unit, its images listed. `rows`: one unit, rows [start, stop) of a Parquet shard.
    `stream`: a whole tar shard, or its images [start, stop), read once in order and cut into units of
    `unit_size` as it is read; `stop` None means to its end, and `images` is then how many those are where
    they were counted. `unit_id` names the unit, or for a stream the prefix of its units' names.
    """

    unit_id: str
    shard: str
    kind: Literal["members", "rows", "stream"]
    start: int
    stop: int | None
    unit_size: int
    shard_size: int | None = None
    members: tuple[ImageRef, ...] = ()
    images: int | None = None

    @property
    def source(self) -> str:
        """What the row was planned from, as `Source.name` says it."""
        of_shards = {"rows": "Parquet files", "stream": "tar shards"}
        return of_shards.get(self.kind) or ("manifests" if self.shard else "images")

    @property
    def known_images(self) -> int | None:
        """How many images the row holds; None for a shard that is read to an unknown end."""
        return self.images if self.stop is None else self.stop - self.start


@dataclass(frozen=True)
class Planned:
    """What earlier plans hold, so that a rerun plans only what is new.

    `untouched` are streamed shards, planned whole, of which no unit is committed: they may be mended.
    """

    members: frozenset[str] = frozenset()
    stops: dict[str, int | None] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    untouched: frozenset[str] = frozenset()


@dataclass(frozen=True)
class EncodedImage:
    """An image's bytes as read, or why they could not be read."""

    image_id: str
    uri: str
    data: bytes | None
    error_kind: str | None = None
    error_message: str | None = None


@dataclass(frozen=True)
class UnitBytes:
    """One unit's images in order; `last` on the last unit of a streamed shard."""

    unit_id: str
    shard: str
    last: bool
    images: tuple[EncodedImage, ...]


Read: TypeAlias = Callable[[PlanRow, Collection[str]], Iterator[UnitBytes]]


class Source(ABC):
    """An input. Instances travel to Ray tasks, so they hold plain values only."""

    name: ClassVar[str] = "images"  # what it reads, in words

    @abstractmethod
    def plan(self, planned: Planned, unit_size: int, limit: int | None) -> Iterator[PlanRow]:
        """Rows for what `planned` does not hold yet, in a stable order, at most `limit` images.

        Raises InputError where the input cannot be listed, is empty, or a shard changed since it was
        planned.
        """

    def check(self, planned: Planned) -> None:  # noqa: B027 - loose images may change
        """Raises InputError where a planned shard changed. `plan` does this first."""

    def renewed(self, rows: Sequence[PlanRow]) -> Sequence[PlanRow]:
        """Rows of a stored plan, which holds no credentials and signatures, with those that the input has now.

        Called after `plan`, if that is called. Raises InputError as `plan`.
        """
        return rows

    @abstractmethod
    def read(self, row: PlanRow, done: Collection[str]) -> Iterator[UnitBytes]:
        """The units of `row` that are not in `done`, in order. An unreadable image is an error on it.

        Raises OutageError where a store fails: the units before it have been given, the rest stays undone.
        """

    @contextmanager
    def reader(self) -> Iterator[Read]:
        """A `read` for several rows: rows of one file, given in order, may be read as one stream."""
        yield self.read
