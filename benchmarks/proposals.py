"""Proposals of a segmenter with tiles off and on and under each ranking, as `evaluate proposals` has them.

On the photographs of coco-masks-more that no built-in segmenter was trained on (`training.segmenter` keeps them
apart), at their stored size. Each run once with the weights' own confidence threshold and once with `--low-conf`,
which lets weak masks through as a benchmark of proposals should. No Ray, no embeddings. Writes every figure with the
machine's name and prints the tables of docs/model-card-segmenter.md, the figures as JSON in its last line:

    python -m benchmarks.proposals --data DATA --output benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import short_name
from fastsam_batch.evaluate.coco_files import TruthImage, read_truth_images
from fastsam_batch.evaluate.proposals import pair_corpus, proposal_figures
from fastsam_batch.export.images import RANKS, ExportImage, ExportMask
from fastsam_batch.images import decode_image
from fastsam_batch.models.pair import load_models
from fastsam_batch.models.segmenter import Segmenter
from training.photographs import read_data, split

COLUMNS = ("AR@10", "AR@100", "AR@1000", "AR@100_small", "AR@100_medium", "AR@100_large")
HEADS = ("input", "confidence", "tiles", "masks an image", *COLUMNS[:4], "medium", "large", "CPU s an image")


def segmented(segmenter: Segmenter, folder: Path, truths: list[TruthImage]) -> Iterator[ExportImage]:
    """The photographs with all their masks, as a corpus would give them."""
    for truth in truths:
        path = folder / truth.file_name
        found = segmenter.segment([decode_image(path.read_bytes())])[0]
        columns = zip(
            found.bboxes_xywh.tolist(),
            found.areas.tolist(),
            found.scores.tolist(),
            found.stability.tolist(),
            found.rles,
            strict=True,
        )
        masks = tuple(
            ExportMask(index, tuple(map(round, box)), area, score, stability, rle)
            for index, (box, area, score, stability, rle) in enumerate(columns)
        )
        yield ExportImage(truth.file_name, str(path), found.image_hw[1], found.image_hw[0], masks)


def measured(options: argparse.Namespace, truths: list[TruthImage], **changes: Any) -> dict[str, Any]:
    """Figures of one setting of the segmenter, by ranking and kind."""
    model = {"path": options.segmenter, "max_masks": options.max_masks, **changes}
    segmenter, _ = load_models(model, None, "cpu", None)
    began = time.process_time()
    images = list(segmented(segmenter, options.data / "coco-masks-more" / "images", truths))
    seconds = time.process_time() - began
    pairs = pair_corpus(truths, [image.image_id for image in images], images, RANKS)
    found = proposal_figures(pairs, ("mask", "box"), options.max_masks)
    for kinds in found["figures"].values():
        for figures in kinds.values():
            del figures["curve"], figures["recall_by_iou"]
    return {
        **{name: getattr(segmenter, name) for name in ("imgsz", "conf", "iou", "max_masks", "tile", "overlap")},
        "masks_per_image": sum(len(image.masks) for image in images) / len(images),
        "cpu_seconds_per_image": seconds / len(images),
        **found,
    }


def tables(runs: list[dict[str, Any]]) -> str:
    """Mask figures of every run by the product, and of every ranking for the last run without tiles, as Markdown."""
    lines = [f"| {' | '.join(HEADS).replace('AR@100_', 'AR@100 ')} |", "|---" * len(HEADS) + "|"]
    for run in runs:
        tiles = f"{run['tile']}, overlap {run['overlap']}" if run["tile"] else "none"
        values = [_three(run["figures"]["product"]["mask"][name]) for name in COLUMNS]
        cells = [run["imgsz"], f"{run['conf']:g}", tiles, round(run["masks_per_image"]), *values]
        lines.append(f"| {' | '.join(map(str, cells))} | {run['cpu_seconds_per_image']:.2f} |")
    weak = next(run for run in reversed(runs) if not run["tile"] and run["imgsz"] == runs[0]["imgsz"])
    lines += ["", f"| confidence {weak['conf']:g}, no tiles, ranked by | AR@10 | AR@100 | AP |", "|---|---|---|---|"]
    for ranking in RANKS:
        figures = weak["figures"][ranking]["mask"]
        lines.append(f"| {ranking} | {' | '.join(_three(figures[name]) for name in ('AR@10', 'AR@100', 'AP'))} |")
    return "\n".join(lines)


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".lstrip("0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds coco-masks and coco-masks-more")
    parser.add_argument("--segmenter", default="builtin")
    parser.add_argument("--low-conf", type=float, default=0.01)
    parser.add_argument("--max-masks", type=int, default=1000)
    parser.add_argument("--tiles", type=int, nargs="*", default=[320], help="sides of tiles, a run each beside none")
    parser.add_argument("--imgsz", type=int, nargs="*", default=[], help="input sizes, a run each without tiles")
    parser.add_argument("--photographs", type=int, default=40)
    parser.add_argument("--output", type=Path, help="folder for proposals-MACHINE.json")
    options = parser.parse_args()
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
    apart, _ = split(read_data(options.data).train, options.photographs)
    names = {photograph.path.name for photograph in apart}
    truths = read_truth_images(str(options.data / "coco-masks-more" / "instances.json"))
    truths = [truth for truth in truths if truth.file_name in names]
    machine = short_name()
    settings: list[dict[str, Any]] = [{}]
    settings += [{"imgsz": imgsz} for imgsz in options.imgsz]
    settings += [{"tile": tile, "overlap": tile // 4} for tile in options.tiles]
    runs = [
        measured(options, truths, conf=conf, **setting) for conf in (None, options.low_conf) for setting in settings
    ]
    summary = {"machine": machine, "segmenter": options.segmenter, "photographs": sorted(names), "runs": runs}
    if options.output:
        path = options.output / f"proposals-{machine}.json"
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(tables(runs))
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
