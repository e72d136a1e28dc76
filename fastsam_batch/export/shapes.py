"""A mask as the shape that a format asks for, its loss measured and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.export.loss import LossReport
from fastsam_batch.masks.outline import outline
from fastsam_batch.masks.polygons import Ring, edge_rings, fill_edges, fill_pixels, iou_of, joined, pixel_rings
from fastsam_batch.masks.rle import decode_in_box
from fastsam_batch.masks.runs import runs_of


@dataclass
class Polygons:
    """How masks become polygons: `tolerance` in pixels that a point may move, `max_loss` of 1 - IoU at most.

    `loss` is told of every mask.
    """

    tolerance: float = 0.0
    max_loss: float | None = None
    loss: LossReport = field(default_factory=LossReport)

    def along_edges(self, image: ExportImage, mask: ExportMask) -> list[Ring] | None:
        """One ring a part along pixel edges, holes joined in by bridges; None where that loses too much.

        The loss is pycocotools': at tolerance 0 there is none.
        """
        parts = outline(runs_of(mask.rle), image.height)
        rings, holes_kept = [], 0
        for part in parts:
            outer, inner = edge_rings(part, self.tolerance)
            rings.append(joined(outer, inner))
            holes_kept += len(inner)
        iou = iou_of(mask.rle, fill_edges(rings, mask.rle.size))
        holes = sum(len(part.holes) for part in parts)
        lost = self._loses_too_much(iou)
        self.loss.add(
            image.image_id,
            mask.mask_index,
            iou,
            parts=len(parts),
            holes=holes,
            holes_lost=holes - holes_kept,
            outcome="fallback" if lost else "written",
        )
        return None if lost else rings

    def through_pixels(self, image: ExportImage, mask: ExportMask) -> Ring | None:
        """One ring through the mask's outermost pixels, holes and parts joined in; None where that loses too much.

        The loss is that of Ultralytics' filling at the image's own size: at tolerance 0, the lines that join parts.
        """
        parts = outline(runs_of(mask.rle), image.height)
        ring, holes_kept = _one_ring([pixel_rings(part, self.tolerance) for part in parts])
        expected = decode_in_box(mask.rle, mask.bbox_xywh)
        filled = fill_pixels(ring, mask.bbox_xywh)
        iou = float((expected & filled).sum() / (expected | filled).sum())
        holes = sum(len(part.holes) for part in parts)
        lost = self._loses_too_much(iou)
        self.loss.add(
            image.image_id,
            mask.mask_index,
            iou,
            parts=len(parts),
            holes=holes,
            holes_lost=holes - holes_kept,
            parts_joined=len(parts) - 1,
            outcome="refused" if lost else "written",
        )
        return None if lost else ring

    def _loses_too_much(self, iou: float) -> bool:
        return self.max_loss is not None and 1 - iou > self.max_loss


def _one_ring(parts: Sequence[tuple[Ring, list[Ring]]]) -> tuple[Ring, int]:
    """All parts and their holes as one ring of at least three vertices, and how many holes it has."""
    first, *others = [joined(outer, holes) for outer, holes in parts]
    ring = joined(first, others)
    if len(ring) < 3:
        ring = np.concatenate([ring, ring[-1:].repeat(3 - len(ring), axis=0)])
    return ring, sum(len(holes) for _, holes in parts)
