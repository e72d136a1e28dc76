"""Mask stage against the reference, paired in one run: time, and IoU of every mask.

Reference: Ultralytics `process_mask_native`, then pycocotools `encode` a mask. Both get the same prototypes,
coefficients and boxes, of which `--masks` are drawn at random with sizes from 3 % of the image's sides up.
Times are the best of `--rounds`, alternating, so that a busy machine burdens both: by the clock, with torch's threads,
and the CPU time of both sides, of which other processes take nothing. With `--device cuda` both begin with prototypes
that lie on the GPU, and end with strings.
"""

from __future__ import annotations

import argparse
import json
import time

import cv2
import machine
import numpy as np
import torch
from pycocotools import mask as coco_mask
from ultralytics.utils.ops import process_mask_native

from fastsam_batch.masks.boxes import letterbox_of
from fastsam_batch.masks.prototypes import encode_masks
from fastsam_batch.models.device_masks import encode_masks_on_device


def detections(masks: int, image_hw: tuple[int, int], imgsz: int, seed: int):
    """Smooth random prototypes, coefficients and boxes, as a network would give them."""
    rng = np.random.default_rng(seed)
    proto_h, proto_w = (side // 4 for side in letterbox_of(image_hw, imgsz).input_hw)
    prototypes = np.empty((32, proto_h, proto_w), np.float32)
    for plane in prototypes:
        coarse = int(rng.integers(3, 20))
        grid = rng.normal(size=(proto_h // coarse, proto_w // coarse)).astype(np.float32)
        plane[:] = cv2.resize(grid, (proto_w, proto_h), interpolation=cv2.INTER_CUBIC)
    size = np.exp(rng.uniform(np.log(0.03), 0, (masks, 2))) * image_hw[::-1]
    centre = rng.uniform(size=(masks, 2)) * image_hw[::-1]
    boxes = np.clip(np.concatenate([centre - size / 2, centre + size / 2], 1), 0, [*image_hw[::-1]] * 2)
    return prototypes, rng.normal(size=(masks, 32)).astype(np.float32), boxes.astype(np.float32)


def reference(prototypes: torch.Tensor, coefficients, boxes, image_hw):
    """COCO RLE dicts by dense masks."""
    device = prototypes.device
    of_masks = (torch.from_numpy(each).to(device) for each in (coefficients, boxes))
    dense = process_mask_native(prototypes, *of_masks, image_hw).cpu().numpy()
    return [coco_mask.encode(np.asfortranarray(mask)) for mask in dense]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--width", type=int, default=2250)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    print(json.dumps(measured(**vars(parser.parse_args()))))


def measured(*, masks: int, height: int, width: int, imgsz: int, rounds: int, seed: int, device: str) -> dict:
    """The figures that are printed."""
    image_hw = height, width
    prototypes, *of_masks = detections(masks, image_hw, imgsz, seed)
    on_device = torch.from_numpy(prototypes).to(device)
    encode, given = (encode_masks, prototypes) if device == "cpu" else (encode_masks_on_device, on_device)
    if device != "cpu":  # whose kernels load at first use
        encode(given, *of_masks, image_hw)
        reference(on_device, *of_masks, image_hw)
    ours_seconds, reference_seconds, cpu_seconds = [], [], []
    for _ in range(rounds):
        began, cpu_began = time.perf_counter(), time.process_time()
        ours = encode(given, *of_masks, image_hw)
        between, cpu_between = time.perf_counter(), time.process_time()
        expected = reference(on_device, *of_masks, image_hw)
        ours_seconds.append(between - began)
        reference_seconds.append(time.perf_counter() - between)
        cpu_seconds.append((cpu_between - cpu_began, time.process_time() - cpu_between))
    ious = [
        float(coco_mask.iou([{"size": list(image_hw), "counts": counts}], [expected[index]], [0])[0, 0])
        for index, counts in zip(ours.kept, ours.counts, strict=True)
    ]
    ratios = sorted(b / a for a, b in zip(ours_seconds, reference_seconds, strict=True))
    return {
        "machine": machine.name(),
        "device": device,
        "imgsz": imgsz,
        "masks": len(ious),
        "missing": int(sum(int(coco_mask.area(rle)) > 0 for rle in expected) - len(ious)),
        "ours_seconds": round(min(ours_seconds), 4),
        "reference_seconds": round(min(reference_seconds), 4),
        "ratio_of_best": round(min(reference_seconds) / min(ours_seconds), 1),
        "ratio_median": round(ratios[len(ratios) // 2], 1),
        "ours_cpu_seconds": round(min(ours for ours, _ in cpu_seconds), 4),
        "reference_cpu_seconds": round(min(theirs for _, theirs in cpu_seconds), 4),
        "cpu_ratio_of_best": round(min(theirs for _, theirs in cpu_seconds) / min(ours for ours, _ in cpu_seconds), 1),
        "worst_iou": round(min(ious), 5),
    }


if __name__ == "__main__":
    main()
