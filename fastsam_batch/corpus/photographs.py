"""The photographs that a corpus was made from, read anew by the uris it stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.corpus.info import BYTES_COLUMN
from fastsam_batch.images import MAX_PIXELS, decode_image
from fastsam_batch.sources.locate import read_image_bytes
from fastsam_batch.sources.parquetrows import ColumnNames
from fastsam_batch.sources.shards import ShardReader


@dataclass(frozen=True)
class Photographs:
    """Reads photographs as the job that made the corpus did: its `bytes_column` of Parquet, its `max_pixels`.

    `shards` are what `opened` keeps open.
    """

    bytes_column: str = BYTES_COLUMN
    max_pixels: int = MAX_PIXELS
    shards: ShardReader | None = None

    @classmethod
    def of(cls, info: dict[str, Any]) -> Photographs:
        """As the content of a corpus.json says."""
        max_pixels = info["options"].get("max_pixels", MAX_PIXELS)
        return cls(info.get("bytes_column", BYTES_COLUMN), max_pixels)

    @contextmanager
    def opened(self) -> Iterator[Photographs]:
        """The same for one who reads many, until the end: tars are read on, as `ShardReader` does."""
        with closing(ShardReader(self.data, ColumnNames(bytes=self.bytes_column))) as shards:
            yield replace(self, shards=shards)

    def data(self, uri: str) -> bytes:
        """The encoded photograph at an image's `uri`. Raises as `read_image_bytes`."""
        if self.shards is not None:
            return self.shards.read(uri)
        return read_image_bytes(uri, bytes_column=self.bytes_column)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Pixels of an encoded photograph, uint8 RGB [H, W, 3]. Raises ImageError."""
        return decode_image(data, self.max_pixels)

    def pixels(self, uri: str) -> NDArray[np.uint8]:
        """The photograph at an image's `uri`, uint8 RGB [H, W, 3]. Raises OSError, InputError or ImageError."""
        return self.decode(self.data(uri))
