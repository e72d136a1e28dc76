"""A prompt on stored masks: milliseconds an answer, on wobbly blobs of all sizes in one large image.

Radii are drawn log-uniformly from 30 pixels to a third of the image's width, so that many blobs nest. `rle`
parses the strings that the answer needs, `runs` finds them parsed. Of each prompt the best of `--rounds`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import cv2
import numpy as np
from machine import short_name
from pycocotools import mask as coco_mask

from fastsam_batch.masks.select import ImageMasks, select


def blobs(masks: int, image_hw: tuple[int, int], seed: int):
    """COCO strings, areas and boxes."""
    rng = np.random.default_rng(seed)
    height, width = image_hw
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    counts, areas, boxes = [], [], []
    while len(counts) < masks:
        radius = np.exp(rng.uniform(np.log(30), np.log(width / 3)))
        wobble = 1 + 0.15 * np.sin(5 * angle + rng.uniform(0, 6)) + 0.05 * np.sin(23 * angle)
        edge = radius * (wobble + 0.01 * rng.normal(size=len(angle)))
        outline = np.stack([edge * np.cos(angle), edge * np.sin(angle)], 1) + rng.uniform(size=2) * (width, height)
        mask = np.zeros(image_hw, np.uint8, order="C")
        cv2.fillPoly(mask, [outline.round().astype(np.int32)], 1)
        if mask.any():
            rle = coco_mask.encode(np.asfortranarray(mask))
            counts.append(rle["counts"].decode())
            areas.append(int(mask.sum()))
            boxes.append(coco_mask.toBbox(rle))
    return counts, np.array(areas), np.array(boxes)


def best_ms(rounds: int, answer: Callable[[], object]) -> float:
    """Milliseconds of the fastest of so many calls."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        answer()
        seconds.append(time.perf_counter() - began)
    return 1000 * min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=300)
    parser.add_argument("--height", type=int, default=3648)
    parser.add_argument("--width", type=int, default=5472)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    image_hw = options.height, options.width
    stored = blobs(options.masks, image_hw, options.seed)
    parsed = ImageMasks(image_hw, *stored)
    runs = sum(len(parsed.runs(mask)) for mask in range(options.masks))
    rng = np.random.default_rng(options.seed + 1)
    points = rng.integers(0, (options.width, options.height), (options.prompts, 2)).tolist()
    kinds = {
        "point": lambda x, y: {"foreground": [(x, y)]},
        "point_smallest": lambda x, y: {"foreground": [(x, y)], "smallest": True},
        "point_and_background": lambda x, y: {"foreground": [(x, y)], "background": [(max(x - 300, 0), y)]},
        "box": lambda x, y: {"boxes": [(x - 400, y - 400, x + 400, y + 400)]},
    }
    times: dict[str, dict[str, float]] = {}
    for kind, prompt in kinds.items():
        for given, masks_of in (("rle", lambda: ImageMasks(image_hw, *stored)), ("runs", lambda: parsed)):
            found = [
                best_ms(options.rounds, lambda x=x, y=y, of=masks_of, p=prompt: select(of(), **p(x, y)))
                for x, y in points
            ]
            p50, p95 = np.percentile(found, [50, 95]).round(2).tolist()
            times[f"{kind}_{given}"] = {"p50": p50, "p95": p95, "max": round(max(found), 2)}
    answers = [len(select(parsed, foreground=[(x, y)]).masks) for x, y in points]
    result = {
        "masks": options.masks,
        "image_hw": image_hw,
        "runs": runs,
        "string_characters": sum(map(len, stored[0])),
        "masks_around_a_point": {"median": float(np.median(answers)), "max": max(answers)},
        "milliseconds": times,
        "machine": short_name(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
