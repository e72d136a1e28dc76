"""What every format writes: images with their chosen, labelled masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fastsam_batch.corpus.photographs import Photographs
from fastsam_batch.masks.rle import Rle
from fastsam_batch.sources.locate import read_image_bytes

RankBy = Literal["score", "stability", "product"]
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

    def worth(self, rank_by: RankBy = BEST_RANK) -> float:
        """What puts masks in order: the confidence of the box, the mask's stability, or their product."""
        return {"score": self.score, "stability": self.stability, "product": self.score * self.stability}[rank_by]


@dataclass(frozen=True)
class ExportImage:
    """An image that was segmented, with the masks to export by mask_index; they can be none.

    `photographs` decodes the photograph, `read` gives its bytes by its `uri`.
    """

    image_id: str
    uri: str
    width: int
    height: int
    masks: tuple[ExportMask, ...]
    photographs: Photographs = field(default_factory=Photographs)
    read: Callable[[str], bytes] = read_image_bytes
