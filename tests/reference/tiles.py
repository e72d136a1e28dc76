"""Masks of tiles put together on dense pixels, slow and obvious: as `fastsam_batch.masks.tiles` states its rules."""

from __future__ import annotations

import numpy as np

from fastsam_batch.masks.tiles import JOIN_IOU, NMS_IOU

SIDES = ("left", "top", "right", "bottom")
OPPOSITE = {"right": "left", "bottom": "top"}


def merge(whole, tiles, image_hw, margin, most):
    """[(mask bool [H, W], score, stability)], best first.

    `whole` is a list of such, `tiles` one of (box, list of such in the tile's frame).
    """
    parts = []
    for box, found in tiles:
        for mask, score, stability in found:
            frame = np.zeros(image_hw, bool)
            frame[box[1] : box[3], box[0] : box[2]] = mask
            parts.append((box, frame, score, stability, cut_sides(mask, box, image_hw, margin)))
    partners = find_partners(parts)
    groups = [{index} for index in range(len(parts))]
    for one, other, _ in partners:
        united = groups[one] | groups[other]
        for index in united:
            groups[index] = united
    candidates = list(whole)
    for index in range(len(parts)):
        group = sorted(groups[index])
        if index != group[0]:
            continue
        mended = {(one, side) for one, _, side in partners}
        mended |= {(other, OPPOSITE[side]) for _, other, side in partners}
        if all((member, side) in mended for member in group for side in parts[member][4]):
            candidates.append(
                (
                    np.any([parts[member][1] for member in group], axis=0),
                    min(parts[member][2] for member in group),
                    min(parts[member][3] for member in group),
                )
            )
    kept = []
    for candidate in sorted(candidates, key=lambda candidate: -candidate[1]):
        if all(iou(candidate[0], other[0]) <= NMS_IOU for other in kept):
            kept.append(candidate)
    return kept[:most]


def cut_sides(mask, box, image_hw, margin):
    """The sides of a tile, inside the image, that a mask comes within `margin` pixels of."""
    near = {
        "left": box[0] > 0 and mask[:, :margin].any(),
        "top": box[1] > 0 and mask[:margin].any(),
        "right": box[2] < image_hw[1] and mask[:, -margin:].any(),
        "bottom": box[3] < image_hw[0] and mask[-margin:].any(),
    }
    return {side for side in SIDES if near[side]}


def find_partners(parts):
    """[(one, other, side of the first)]: a tile and the one to its right or below, pair by pair, best first."""
    partners = []
    boxes = sorted({part[0] for part in parts})
    for here in boxes:
        for there in boxes:
            for side in OPPOSITE:
                if not beside(here, there, side):
                    continue
                agreements = []
                for i, one in enumerate(parts):
                    for j, other in enumerate(parts):
                        if one[0] == here and other[0] == there and side in one[4] and OPPOSITE[side] in other[4]:
                            x1, y1, x2, y2 = overlap(here, there)
                            agreement = iou(one[1][y1:y2, x1:x2], other[1][y1:y2, x1:x2])
                            if agreement >= JOIN_IOU:
                                agreements.append((-agreement, i, j))
                taken = set()
                for _, i, j in sorted(agreements):
                    if not taken & {i, j}:
                        taken |= {i, j}
                        partners.append((i, j, side))
    return partners


def beside(here, there, side):
    """Whether a tile overlaps the next one, or a later one, to its right or below."""
    along, across = (0, 1) if side == "right" else (1, 0)
    if here[across] != there[across]:
        return False
    return here[along] < there[along] < here[along + 2] < there[along + 2]


def overlap(here, there):
    return max(here[0], there[0]), max(here[1], there[1]), min(here[2], there[2]), min(here[3], there[3])


def iou(one, other):
    both = (one | other).sum()
    return (one & other).sum() / both if both else 0.0
