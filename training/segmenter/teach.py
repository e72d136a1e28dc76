"""Masks for photographs without labels, from a segmenter that exists: those on which several looks agree.

python -m training.segmenter.teach --data DATA --weights builtin --output taught.json

Method: self-training on pseudo-labels ("STAC", Sohn et al. 2020), chosen by agreement of views (data distillation,
Radosavovic et al. 2018) in place of a high threshold, since a small network's scores are low. Ragged borders are
smoothed, so that the next network learns the shape and not the raggedness; masks that a wrong box has cut are left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter
from training.command import told
from training.photographs import read_data, read_image, split
from training.taught import SAME, TaughtMask, taught_by, write_taught

Mask = NDArray[np.uint8]

SIDES = (480, 640)  # of the looks' inputs; the first is taken mirrored too
CONF = 0.05
AGREE = 0.7  # IoU at which two looks saw one mask
MIN_LOOKS, MIN_SCORE = 2, 0.1
MIN_AREA = 64  # pixels
SMOOTHING = 0.02  # of the square root of a mask's box, the radius
MIN_KEPT = 0.88  # IoU of a mask with itself smoothed
MAX_RAGGED = 1.8  # times the border of its convex hull
STRAIGHT = 0.5  # of a box's side: a mask that lies along more of it was cut there
RECTANGLE = 0.85  # of its box: what fills more is one, and has straight sides of its own
MIN_CUT = 24  # pixels of a box's shorter side, below which everything is straight
_ALONG = 2  # pixels


class Seen(NamedTuple):
    """A mask as pycocotools' RLE, with its score."""

    rle: Any
    score: float


def agreed(looks: list[list[Seen]]) -> list[Seen]:
    """The masks that at least two looks saw, each once, best first.

    A mask's score is the mean over the looks of the best score there at an IoU of .7 or more, nought where none is.
    """
    every = [(seen, number) for number, masks in enumerate(looks) for seen in masks]
    if not every:
        return []
    rles = [seen.rle for seen, _ in every]
    ious = np.asarray(coco_mask.iou(rles, rles, [0] * len(rles)))
    scores = np.where(ious >= AGREE, [seen.score for seen, _ in every], 0)
    of_look = np.array([number for _, number in every])
    best = np.stack([scores[:, of_look == number].max(axis=1, initial=0) for number in range(len(looks))], axis=1)
    mean = best.mean(axis=1)
    kept: list[int] = []
    for index in np.argsort(-mean, kind="stable").tolist():
        sure = np.count_nonzero(best[index]) >= MIN_LOOKS and mean[index] >= MIN_SCORE
        if sure and not (ious[index, kept] > SAME).any():
            kept.append(index)
    return [Seen(rles[index], float(mean[index])) for index in kept]


def smoothed(mask: Mask) -> Mask | None:
    """The largest part of a mask, uint8 0 or 1 [h, w], with a smooth border and its small holes filled.

    None where that is another mask, or where its border stays ragged.
    """
    x, y, width, height = cv2.boundingRect(mask)
    radius = max(round(SMOOTHING * (width * height) ** 0.5), 1)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    margin = 2 * radius + 1
    part = np.pad(mask[y : y + height, x : x + width], margin)
    smooth = cv2.morphologyEx(part, cv2.MORPH_CLOSE, brush)
    if min(width, height) > 8:  # thin things would vanish
        smooth = cv2.morphologyEx(smooth, cv2.MORPH_OPEN, brush)
    borders, _ = cv2.findContours(np.asarray(smooth, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not borders:
        return None
    outer = max(borders, key=cv2.contourArea)
    whole = np.zeros(part.shape, np.uint8)  # C order, which OpenCV draws in; pycocotools decodes to Fortran's
    cv2.drawContours(whole, [outer], -1, (1,), cv2.FILLED)
    holes = whole & (1 - np.asarray(smooth, np.uint8))
    if cv2.countNonZero(holes) > 0.03 * cv2.countNonZero(whole):
        whole &= np.asarray(smooth, np.uint8)
    out = np.zeros_like(mask)
    out[y : y + height, x : x + width] = whole[margin:-margin, margin:-margin]
    both, either = cv2.countNonZero(out & mask), cv2.countNonZero(out | mask)
    ragged = cv2.arcLength(outer, True) > MAX_RAGGED * max(cv2.arcLength(cv2.convexHull(outer), True), 1)
    return None if both < MIN_KEPT * either or ragged or cv2.countNonZero(out) < MIN_AREA else out


def is_cut(mask: Mask) -> bool:
    """Whether a mask, uint8 0 or 1 [h, w] and not empty, ends at a straight side of its box inside the image."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask))
    box = mask[y : y + height, x : x + width]
    if min(width, height) <= MIN_CUT or box.mean() >= RECTANGLE:
        return False
    right, bottom = mask.shape[1] - x - width, mask.shape[0] - y - height
    sides = (
        (y, box[:_ALONG].max(0)),
        (bottom, box[-_ALONG:].max(0)),
        (x, box[:, :_ALONG].max(1)),
        (right, box[:, -_ALONG:].max(1)),
    )
    return any(away > _ALONG and along.mean() > STRAIGHT for away, along in sides)


def look(segmenter: Segmenter, image: Mask, mirrored: bool = False) -> list[Seen]:
    """What a segmenter sees in uint8 RGB [h, w, 3], or in its mirror image, in the frame of the image."""
    found = segmenter.segment([np.ascontiguousarray(image[:, ::-1]) if mirrored else image])[0]
    rles = [rle.to_coco() for rle in found.rles]
    if mirrored:
        rles = [coco_mask.encode(np.asfortranarray(coco_mask.decode(rle)[:, ::-1])) for rle in rles]
    large = found.areas >= MIN_AREA
    return [Seen(rle, float(score)) for rle, score, kept in zip(rles, found.scores, large, strict=True) if kept]


def masks_of(segmenters: list[Segmenter], image: Mask) -> list[TaughtMask]:
    """The masks that the looks agree on, smoothed, without those that are cut."""
    looks = [look(segmenter, image) for segmenter in segmenters] + [look(segmenters[0], image, mirrored=True)]
    masks = []
    for seen in agreed(looks):
        smooth = smoothed(coco_mask.decode(seen.rle))
        if smooth is not None and not is_cut(smooth):
            counts = coco_mask.encode(np.asfortranarray(smooth))["counts"].decode("ascii")
            masks.append(TaughtMask(Rle((smooth.shape[0], smooth.shape[1]), counts), seen.score))
    return masks


def main(arguments: list[str] | None = None) -> int:
    """Write the file; exit status 2 with a sentence for input that cannot be used."""
    return told(_run, _parser().parse_args(arguments))


def _run(options: argparse.Namespace) -> None:
    _, photographs = split(read_data(options.data).train, options.second)
    weights = find_segmenter(options.weights).main
    device = "cuda" if torch.cuda.is_available() else "cpu"
    segmenters = [
        Segmenter(weights, imgsz=side, conf=CONF, max_masks=options.max_masks, device=device) for side in SIDES
    ]
    plain = [photograph for photograph in photographs if photograph.captions]
    write_taught(taught_by(lambda photograph: masks_of(segmenters, read_image(photograph.path)), plain), options.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.segmenter.teach", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-masks and coco-captions")
    parser.add_argument("--weights", default="builtin", help="the segmenter that teaches: builtin or a file")
    parser.add_argument("--output", type=Path, required=True, help="file for --taught of training.segmenter")
    parser.add_argument("--second", type=int, default=40, help="photographs of coco-masks-more kept apart")
    parser.add_argument("--max-masks", type=int, default=150, help="of a look")
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
