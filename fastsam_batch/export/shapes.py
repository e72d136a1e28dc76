"""A mask as the shape that a format asks for, its loss measured and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.export.loss import LossReport
from fastsam_batch.masks.outline import Part, area_of, outline
from fastsam_batch.masks.polygons import Ring, edge_rings, fill_edges, fill_pixels, iou_of, joined, pixel_rings
from fastsam_batch.masks.rle import fill_box
from fastsam_batch.masks.runs import runs_of


@dataclass
class Polygons:
    """How masks become polygons: `tolerance` in pixels that a point may move, `min_piece` pixels that a hole, or a
    part beside the largest, must have to be kept, `max_loss` of 1 - IoU at most.

    `loss` is told of every mask.
    """

    tolerance: float = 0.0
    min_piece: int = 0
    max_loss: float | None = None
    loss: LossReport = field(default_factory=LossReport)

    def along_edges(self, image: ExportImage, mask: ExportMask) -> list[Ring] | None:
        """One ring a part along pixel edges, holes joined in by bridges; None where that loses too much.

        The loss is pycocotools': where nothing is simplified or left out there is none.
        """
        found = outline(runs_of(mask.rle), image.height)
        pieces = [edge_rings(part, self.tolerance) for part in self._kept(found)]
        rings = [joined(outer, holes) for outer, holes in pieces]
        iou = iou_of(mask.rle, fill_edges(rings, mask.rle.size))
        return rings if self._accepted(image, mask, iou, found, pieces, "fallback") else None

    def through_pixels(self, image: ExportImage, mask: ExportMask) -> Ring | None:
        """One ring through the mask's outermost pixels, holes and parts joined in; None where that loses too much.

        The loss is that of Ultralytics' filling at the image's own size: where nothing is simplified or left out,
        the lines that join parts.
        """
        runs = runs_of(mask.rle)
        found = outline(runs, image.height)
        pieces = [pixel_rings(part, self.tolerance) for part in self._kept(found)]
        ring = _one_ring(pieces)
        expected = fill_box(np.concatenate([runs.starts, runs.ends]), image.height, mask.bbox_xywh)
        filled = fill_pixels(ring, mask.bbox_xywh)
        iou = float(np.count_nonzero(expected & filled) / np.count_nonzero(expected | filled))
        return ring if self._accepted(image, mask, iou, found, pieces, "refused", len(pieces) - 1) else None

    def _kept(self, parts: Sequence[Part]) -> list[Part]:
        """The parts and holes that are large enough, and the largest part in any case."""
        if not self.min_piece:
            return list(parts)
        sizes = [area_of(part.outer) for part in parts]
        largest = int(np.argmax(sizes))
        return [
            Part(part.outer, tuple(hole for hole in part.holes if -area_of(hole) >= self.min_piece))
            for number, (part, size) in enumerate(zip(parts, sizes, strict=True))
            if size >= self.min_piece or number == largest
        ]

    def _accepted(
        self,
        image: ExportImage,
        mask: ExportMask,
        iou: float,
        found: Sequence[Part],
        written: Sequence[tuple[Ring, list[Ring]]],
        otherwise: str,
        parts_joined: int = 0,
    ) -> bool:
        """Record what a mask lost; False where that is too much."""
        accepted = self.max_loss is None or 1 - iou <= self.max_loss
        holes = sum(len(part.holes) for part in found)
        self.loss.add(
            image.image_id,
            mask.mask_index,
            iou,
            parts=len(found),
            holes=holes,
            parts_lost=len(found) - len(written),
            holes_lost=holes - sum(len(kept) for _, kept in written),
            parts_joined=parts_joined,
            outcome="written" if accepted else otherwise,
        )
        return accepted


def _one_ring(parts: Sequence[tuple[Ring, list[Ring]]]) -> Ring:
    """All parts and their holes as one ring of at least three vertices."""
    first, *others = [joined(outer, holes) for outer, holes in parts]
    ring = joined(first, others)
    return ring if len(ring) > 2 else np.concatenate([ring, ring[-1:].repeat(3 - len(ring), axis=0)])
