"""What every format writes: images with their chosen, labelled masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastsam_batch.corpus.photographs import Photographs
from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle
from fastsam_batch.storage import redact

RankBy = Literal["score", "stability", "product"]
AGNOSTIC = "object"  # the one category where there are no classes
RANKS: tuple[RankBy, ...] = ("score", "stability", "product")
# What finds most labelled objects with the first 10 and 100 masks: docs/model-card-segmenter.md has the figures.
BEST_RANK: RankBy = "product"


@dataclass(frozen=True)
class ExportMask:
    """One mask. `bbox_xywh` is tight, in whole pixels; `label` counts the export's categories from 0.

    `similarity` is the cosine with the best text of the label, None where there are no texts.
    """

    mask_index: int
    bbox_xywh: tuple[int, int, int, int]
    area: int
    score: float
    stability: float
    rle: Rle
    label: int = 0
    similarity: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], label: int = 0, similarity: float | None = None) -> ExportMask:
        """A stored mask, by its row of masks (schemas/masks.v1.json)."""
        x, y, width, height = map(round, row["bbox"])
        numbers = {name: row[name] for name in ("mask_index", "area", "score", "stability")}
        rle = Rle.from_coco(row["rle"])
        return cls(**numbers, bbox_xywh=(x, y, width, height), rle=rle, label=label, similarity=similarity)

    def worth(self, rank_by: RankBy) -> float:
        """What puts masks in order: the confidence of the box, the mask's stability, or their product."""
        return {"score": self.score, "stability": self.stability, "product": self.score * self.stability}[rank_by]


@dataclass(frozen=True)
class ExportImage:
    """An image that was segmented, with the masks to export by mask_index; they can be none.

    `photographs` reads its photograph; `sha256` is that of the bytes that were segmented, None where nobody will ask
    for them.
    """

    image_id: str
    uri: str
    width: int
    height: int
    masks: tuple[ExportMask, ...]
    photographs: Photographs = field(default_factory=Photographs)
    sha256: str | None = None

    def data(self) -> bytes:
        """The encoded photograph. Raises OSError, and InputError where it is not the one that was segmented."""
        data = self.photographs.data(self.uri)
        if self.sha256 is not None and hashlib.sha256(data).hexdigest() != self.sha256:
            raise InputError(
                f"the photograph of {self.image_id!r} at {redact(self.uri)} has changed since it was segmented; "
                "put the old one back, segment anew, or leave the photographs out with --images none"
            )
        return data
