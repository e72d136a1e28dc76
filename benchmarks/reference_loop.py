"""The reference: what one would write today. A loop over photographs with Ultralytics' FastSAM and open_clip.

Masks by `retina_masks=True`, COCO RLE by pycocotools, crops by PIL, one CLIP batch an image, rows to Parquet.
`segment_photograph` is the whole of it; benchmarks/reference_ray_data.py runs the same function in Ray Data.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from ultralytics import FastSAM

MARGIN = 0.1  # of a context crop, as in fastsam_batch.models.crops
MIN_AREA = 100


class Reference:
    """Both models, as their own libraries load them."""

    def __init__(self, segmenter: str, embedder: str, crop: str, device: str = "cpu", **thresholds: float) -> None:
        self.device = device
        self.fastsam = FastSAM(segmenter)
        self.thresholds = thresholds
        self.clip, _, self.preprocess = open_clip.create_model_and_transforms(embedder)
        self.clip.to(device).eval()
        mean = open_clip.get_model_preprocess_cfg(self.clip)["mean"]
        self.fill = tuple(round(255 * value) for value in mean)
        self.kinds = ("masked", "context") if crop == "both" else (crop,)

    def segment_photograph(self, image_id: str, image: Image.Image) -> list[dict]:
        """Rows of one photograph, one a mask."""
        bgr = np.asarray(image)[..., ::-1]
        result = self.fastsam(bgr, retina_masks=True, device=self.device, verbose=False, **self.thresholds)[0]
        if result.masks is None:
            return []
        rows, crops = [], []
        masks = result.masks.data.cpu().numpy().astype(np.uint8)
        for mask, score in zip(masks, result.boxes.conf.tolist(), strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask))
            area = int(coco_mask.area(rle))
            if area == 0:
                continue
            box = coco_mask.toBbox(rle).tolist()
            rle["counts"] = rle["counts"].decode()
            row = {"image_id": image_id, "bbox": box, "area": area, "score": score, "rle": rle, "embedding": None}
            rows.append(row)
            if area >= MIN_AREA:
                crops.append((row, [self.crop(image, mask, box, kind) for kind in self.kinds]))
        if crops:
            pixels = torch.stack([self.preprocess(crop) for _, of_mask in crops for crop in of_mask])
            with torch.no_grad():
                features = torch.nn.functional.normalize(self.clip.encode_image(pixels.to(self.device)), dim=-1).cpu()
            features = features.view(len(crops), len(self.kinds), -1).mean(1)
            for (row, _), vector in zip(crops, torch.nn.functional.normalize(features, dim=-1), strict=True):
                row["embedding"] = vector.numpy()
        return rows

    def crop(self, image: Image.Image, mask: np.ndarray, box: list[float], kind: str) -> Image.Image:
        """The mask's box as a square, padded: background removed, or with a margin and what lies around."""
        x, y, width, height = (int(value) for value in box)
        margin = round(MARGIN * max(width, height)) if kind == "context" else 0
        edges = (
            max(x - margin, 0),
            max(y - margin, 0),
            min(x + width + margin, image.width),
            min(y + height + margin, image.height),
        )
        crop = image.crop(edges)
        if kind == "masked":
            alpha = Image.fromarray(mask[y : y + height, x : x + width] * np.uint8(255))
            crop = Image.composite(crop, Image.new("RGB", crop.size, self.fill), alpha)
        return ImageOps.pad(crop, (max(crop.size),) * 2, color=self.fill)


def write_rows(rows: list[dict], path: Path) -> None:
    """Rows as one Parquet file, embeddings in half precision."""
    for row in rows:
        if row["embedding"] is not None:
            row["embedding"] = row["embedding"].astype(np.float16)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--output", type=Path, required=True, help="Parquet file")
    parser.add_argument("--segmenter", required=True, help="a .pt that FastSAM() loads")
    parser.add_argument("--embedder", required=True, help="a name that open_clip loads")
    parser.add_argument("--crop", choices=("masked", "context", "both"), default="both")
    parser.add_argument("--thresholds", type=json.loads, default={}, help="JSON: imgsz, conf, iou, max_det")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    reference = Reference(options.segmenter, options.embedder, options.crop, **options.thresholds)
    paths = sorted(options.input.iterdir())
    reference.segment_photograph("", Image.open(paths[0]).convert("RGB"))  # models are fused and set up at first use
    rows: list[dict] = []
    began, cpu = time.perf_counter(), time.process_time()
    for path in paths:
        rows.extend(reference.segment_photograph(path.name, Image.open(path).convert("RGB")))
    write_rows(rows, options.output)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"images": len(paths), "masks": len(rows), "seconds": seconds, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main()
