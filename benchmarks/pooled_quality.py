"""What pooled embeddings cost in quality and save in time, against crops, on true masks of held-out photographs.

The photographs of coco-masks that no built-in model was trained on, their masks of at least 32 x 32 pixels, the 80
COCO names as texts. `as the job pools` leaves sparse images and small masks to their crops; `wherever a mask is large
enough` pools in sparse images too. Prints a Markdown table and, in its last line, JSON:

    python -m benchmarks.pooled_quality --data DATA [--embedder builtin]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.models.crops import CROP_KINDS, merge_crops
from fastsam_batch.models.embedder import POOL_SCALE, Embedder
from training.clip.evaluate import MIN_AREA, figures
from training.photographs import Photograph, Thing, read_data, read_image

WAYS = {  # crops of what is not pooled; how many a mask counts as, when it is decided whether to pool an image
    "crops, both": ("both", 0),
    "crops, masked": ("masked", 0),
    f"as the job pools, at {POOL_SCALE} times": ("masked", 1),
    "as it pools with `--crop both`": ("both", 2),
    "wherever a mask is large enough": ("masked", 10**6),
}


def embed(
    embedder: Embedder, image: NDArray[np.uint8], things: list[Thing], kind: str, per_mask: int
) -> tuple[NDArray[np.float32], int]:
    """Vectors float32 [masks, dim] of an image's masks, and how many of them were pooled."""
    rles = [thing.rle for thing in things]
    areas = np.array([thing.area for thing in things], np.int64)
    vectors, pooled = np.zeros((len(things), embedder.dim), np.float32), np.zeros(len(things), np.bool_)
    if per_mask:
        vectors, pooled = embedder.pool_masks(image, rles, areas, per_mask)
    rest = np.flatnonzero(~pooled)
    if len(rest):
        boxes = np.array([things[index].box_xywh for index in rest], np.float32)
        crops = embedder.crops_of(embedder.crop_source(image), [rles[index] for index in rest], boxes, kind)
        vectors[rest] = merge_crops(
            embedder.embed_crops([crop for each in crops for crop in each]), len(CROP_KINDS[kind])
        )
    return vectors, int(pooled.sum())


def measure(embedder: Embedder, photographs: list[Photograph], names: list[str]) -> dict[str, dict[str, Any]]:
    """Figures of each way over all photographs, by turns on each."""
    vectors: dict[str, list[NDArray[np.float32]]] = {way: [] for way in WAYS}
    pooled, seconds = dict.fromkeys(WAYS, 0), dict.fromkeys(WAYS, 0.0)
    labels: list[int] = []
    for photograph in photographs:
        things = [thing for thing in photograph.things if thing.area >= MIN_AREA]
        if not things:
            continue
        image = read_image(photograph.path)
        labels.extend(names.index(thing.name) for thing in things)
        for way, (kind, per_mask) in WAYS.items():
            began = time.process_time()
            found, count = embed(embedder, image, things, kind, per_mask)
            seconds[way] += time.process_time() - began
            vectors[way].append(found)
            pooled[way] += count
    texts = embedder.encode_texts(names)
    return {
        way: {
            "pooled": pooled[way],
            "masks": len(labels),
            "seconds": round(seconds[way], 2),
            **figures(np.concatenate(vectors[way]) @ texts.T, np.array(labels), names.index("person")),
        }
        for way in WAYS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-masks")
    parser.add_argument("--embedder", default="builtin")
    options = parser.parse_args()
    data = read_data(options.data)
    embedder = Embedder(options.embedder, mode="pool")
    measure(embedder, data.validation[:2], data.coco_names)  # warms up
    found = measure(embedder, data.validation, data.coco_names)
    print("| | pooled | top-1 | top-5 | non-person top-1 | mAP | CPU time |\n|---|---|---|---|---|---|---|")
    first = next(iter(found.values()))["seconds"]
    for way, of_way in found.items():
        shown = " | ".join(f"{of_way[name]:.3f}" for name in ("top1", "top5", "nonperson_top1", "map"))
        print(f"| {way} | {of_way['pooled']} of {of_way['masks']} | {shown} | {of_way['seconds'] / first:.2f} |")
    print(json.dumps({"embedder": options.embedder, "photographs": len(data.validation), "ways": found}))


if __name__ == "__main__":
    main()
