"""What the page looks up: photographs page by page, one image with its masks, the mask of a hit."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.errors import InputError, NotInCorpusError
from fastsam_batch.search.image import CorpusImage
from fastsam_batch.storage import absolute, redact
from fastsam_batch.web.cache import BoundedCache
from fastsam_batch.words import counted

_IMAGE_BYTES = 64 * 2**20
_HIT_BYTES = 32 * 2**20
_ROW_BYTES = 16 * 2**20


class Catalogue:
    """A corpus for many small questions; what was asked for lately is kept in bounded memory."""

    def __init__(self, corpus: Corpus) -> None:
        self._told: tuple[Corpus, str] | None = None
        self._see(corpus)

    def _see(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._images: BoundedCache[CorpusImage] = BoundedCache(_IMAGE_BYTES, lambda image: image.masks.nbytes)
        self._rows: BoundedCache[dict[str, Any]] = BoundedCache(_ROW_BYTES, lambda _: 1024)
        self._hits: BoundedCache[dict[str, Any]] = BoundedCache(_HIT_BYTES, lambda hit: 512 + len(hit["rle"]["counts"]))

    def refresh(self) -> None:
        """See the units that were committed, or taken away, since.

        Raises InputError where there is another corpus now, OutageError where the store fails.
        """
        if _identity(Corpus.open(self.corpus.uri)) != self.identity:
            raise InputError(f"the corpus {self.corpus.name} was made anew; start its page again")
        now = self.corpus.now()
        if now.receipts().keys() != self.corpus.receipts().keys():
            self._see(now)

    @cached_property
    def identity(self) -> str:
        """Which corpus this is: a digest that stays while it grows, and is another one where it was made anew."""
        return _identity(self.corpus)

    @property
    def version(self) -> str:
        """A digest of what is in it: another one with every unit that is new, changed or gone."""
        corpus, told = self.corpus, self._told
        if told is None or told[0] is not corpus:
            units = [[unit, receipt["files"]] for unit, receipt in corpus.receipts().items()]
            told = self._told = corpus, _digest([self.identity, units])
        return told[1]

    def page(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Rows of images, failed ones included, from the `offset`-th on in the corpus's order.

        Reads the files of the units they lie in, whatever the size of the corpus.
        """
        rows: list[dict[str, Any]] = []
        first = 0  # place of the unit's first image
        for unit_id, receipt in self.corpus.receipts().items():
            end = first + receipt["images"]
            if end > offset:
                unit = self.corpus.only([unit_id]).images()
                rows += unit.slice(max(offset - first, 0), limit - len(rows)).to_pylist()
            if len(rows) == limit:
                break
            first = end
        for row in rows:
            self._rows.keep(row["image_id"], row)
        return rows

    def row(self, image_id: str) -> dict[str, Any]:
        """An image's row of images, without reading its masks where a page held it. Raises NotInCorpusError."""
        return self._rows.get(image_id, lambda: self.image(image_id).row)

    def image(self, image_id: str) -> CorpusImage:
        """One image with its masks. Raises NotInCorpusError for an unknown id."""
        return self._images.get(image_id, lambda: self.corpus.image(image_id))

    def remember(self, hits: pa.Table) -> None:
        """Keep what a search found (`find.hits_schema`): its cards are asked for next."""
        for hit in hits.to_pylist():
            self._hits.keep((hit["image_id"], hit["mask_index"]), hit)

    def mask(self, image_id: str, mask_index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """An image's row (its image_id, uri, width and height at least) and the row of one of its masks.

        Raises NotInCorpusError where there is no such image or mask.
        """
        mask = self._hits.get((image_id, mask_index), lambda: self._stored_mask(image_id, mask_index))
        height, width = mask["rle"]["size"]
        image = {"image_id": image_id, "uri": mask["uri"], "width": width, "height": height}
        return image, mask

    def _stored_mask(self, image_id: str, mask_index: int) -> dict[str, Any]:
        image = self.image(image_id)
        found = image.masks.filter(pc.field("mask_index") == mask_index).to_pylist()
        if not found:
            raise NotInCorpusError(
                f"{image_id!r} has no mask {mask_index}; it has {counted(image.masks.num_rows, 'mask')}, from 0 on"
            )
        mask: dict[str, Any] = found[0]
        return mask | {"uri": image.row["uri"]}


def _identity(corpus: Corpus) -> str:
    return _digest([redact(absolute(corpus.uri)), corpus.info.get("created_at"), corpus.info.get("fingerprint")])


def _digest(told: list[Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
