"""Masks as SVG paths, so that the page can light, hover and draw them at any size."""

from __future__ import annotations

from fastsam_batch.masks.outline import area_of, outline
from fastsam_batch.masks.polygons import Ring, edge_rings
from fastsam_batch.masks.rle import Rle
from fastsam_batch.masks.runs import runs_of

# How far a path may leave the pixels' edges: less than a pixel on a screen, and enough to make slants straight.
_SHOWN_SIDE = 1600
_LEAST_TOLERANCE = 0.7
# Parts and holes smaller than this, in squares of the tolerance, would only be noise on the page.
_SPECK = 12


def svg_path(rle: Rle) -> str:
    """The outlines of a mask and of its holes as an SVG path in pixels of its image, for fill-rule `evenodd`.

    A mask without pixels has the empty path; one of specks alone keeps them. Raises ValueError for a broken RLE.
    """
    tolerance = max(_LEAST_TOLERANCE, max(rle.size) / _SHOWN_SIDE)
    rings: list[Ring] = []
    for part in outline(runs_of(rle), rle.size[0]):
        outer, holes = edge_rings(part, tolerance)
        rings += [outer, *holes]
    clear = [ring for ring in rings if abs(area_of(ring)) > _SPECK * tolerance**2]
    return "".join(_closed(ring) for ring in clear or rings)


def _closed(ring: Ring) -> str:
    return f"M{'L'.join(f'{x:g},{y:g}' for x, y in ring.round(1).tolist())}Z"
