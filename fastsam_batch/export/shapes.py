"""A mask as the shape that a format asks for, its loss measured and recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.export.loss import LossReport
from fastsam_batch.masks.outline import Part, area_of, outline
from fastsam_batch.masks.polygons import (
    PixelPart,
    Ring,
    edge_rings,
    fill_edges,
    fill_pixels,
    iou_of,
    joined,
    pixel_parts,
    pixel_rings,
)
from fastsam_batch.masks.rle import decode_in_box
from fastsam_batch.masks.runs import runs_of


@dataclass
class Polygons:
    """How masks become polygons: `tolerance` in pixels that a point may move, `min_piece` pixels that a hole, or a
    part beside the largest, must have to be kept, `max_loss` of 1 - IoU at most.

    `loss` is told of every mask; `refused` counts by label those that are no ring for `max_loss`.
    """

    tolerance: float = 0.0
    min_piece: int = 0
    max_loss: float | None = None
    loss: LossReport = field(default_factory=LossReport)
    refused: Counter[int] = field(default_factory=Counter)

    def along_edges(self, image: ExportImage, mask: ExportMask) -> list[Ring] | None:
        """One ring a part along pixel edges, holes joined in by bridges; None where that loses too much.

        The loss is pycocotools': where nothing is simplified or left out there is none.
        """
        found = outline(runs_of(mask.rle), image.height)
        sizes = [area_of(part.outer) for part in found]
        kept = self._kept(sizes, [[-area_of(hole) for hole in part.holes] for part in found])
        pieces = [
            edge_rings(Part(found[part].outer, tuple(found[part].holes[hole] for hole in holes)), self.tolerance)
            for part, holes in kept
        ]
        rings = [joined(outer, holes) for outer, holes in pieces]
        iou = iou_of(mask.rle, fill_edges(rings, mask.rle.size))
        return rings if self._accepted(image, mask, iou, found, pieces, "fallback") else None

    def through_pixels(self, image: ExportImage, mask: ExportMask) -> Ring | None:
        """One ring through the mask's outermost pixels, holes and parts joined in; None where that loses too much.

        The loss is that of Ultralytics' filling at the image's own size: where nothing is simplified or left out,
        the lines that join parts.
        """
        expected = decode_in_box(mask.rle, mask.bbox_xywh)
        found = pixel_parts(expected, mask.bbox_xywh[:2])
        kept = self._kept([part.pixels for part in found], [part.hole_pixels for part in found])
        pieces = [
            pixel_rings(found[part].outer, [found[part].holes[hole] for hole in holes], self.tolerance)
            for part, holes in kept
        ]
        ring = _one_ring(pieces)
        filled = fill_pixels(ring, mask.bbox_xywh)
        iou = float(np.count_nonzero(expected & filled) / np.count_nonzero(expected | filled))
        return ring if self._accepted(image, mask, iou, found, pieces, "refused", len(pieces) - 1) else None

    def _kept(self, sizes: Sequence[float], hole_sizes: Sequence[Sequence[float]]) -> list[tuple[int, list[int]]]:
        """The parts, by number, that are large enough, each with its holes that are; the largest part in any case."""
        largest = int(np.argmax(sizes))
        return [
            (number, [hole for hole, pixels in enumerate(holes) if pixels >= self.min_piece])
            for number, (size, holes) in enumerate(zip(sizes, hole_sizes, strict=True))
            if size >= self.min_piece or number == largest
        ]

    def _accepted(
        self,
        image: ExportImage,
        mask: ExportMask,
        iou: float,
        found: Sequence[Part] | Sequence[PixelPart],
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
        if not accepted and otherwise == "refused":
            self.refused[mask.label] += 1
        return accepted


def _one_ring(parts: Sequence[tuple[Ring, list[Ring]]]) -> Ring:
    """All parts and their holes as one ring of at least three vertices."""
    first, *others = [joined(outer, holes) for outer, holes in parts]
    ring = joined(first, others)
    return ring if len(ring) > 2 else np.concatenate([ring, ring[-1:].repeat(3 - len(ring), axis=0)])
