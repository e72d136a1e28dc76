"""Where the time goes: CPU seconds an image by stage, for the reference loop and for this package, beside the floor.

Both run in one process and one thread, by turns, over the same photographs with the same weights; times are CPU time
of the threads that did the work, and of `--rounds` the median. `--models builtin` runs as it is. `s` and `x` are
untrained YOLOv8-seg of one class at 1024 pixels with an untrained ViT-B/32: what they find is replaced by `--masks`
made detections with overlapping candidates, on both sides alike, so that the later stages do real work.

python benchmarks/stages.py --models builtin s --plot docs/images/stages.png
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

import machine
import made_models
import numpy as np
import pyarrow.parquet as pq
import reference_loop
import torch
from floor import FLOAT, Work, floors, mean_work, operations
from made_photographs import make_photographs
from pairs import Pair, load_pair
from PIL import Image
from stage_clock import StageClock, replaced
from ultralytics.utils import nms as ultralytics_nms

import fastsam_batch.models.segmenter as segmenter_module
import fastsam_batch.unit as unit_module
from fastsam_batch.corpus.info import describe
from fastsam_batch.corpus.write import commit_unit
from fastsam_batch.evaluate.report import new_figure
from fastsam_batch.masks.boxes import letterbox_of
from fastsam_batch.models.crops import CROP_KINDS
from fastsam_batch.sources.base import EncodedImage, UnitBytes

STAGES = ("read", "decode", "letterbox", "forward", "nms", "masks+rle", "crops", "clip", "write", "other")
MIN_AREA = 100


def run_reference(pair: Pair, paths: list[Path], output: Path) -> dict[str, float]:
    """CPU seconds by stage of the loop over all photographs."""
    clock, reference = StageClock(), pair.reference
    image = Image.open(paths[0]).convert("RGB")
    if reference.fastsam.predictor is None:
        reference.segment_photograph("", image)  # fused and set up at first use
    predictor = reference.fastsam.predictor

    rows: list[dict] = []
    with (
        clock("other"),
        replaced(predictor, "inference", pair.reference_inference(clock.timed("forward", predictor.inference))),
        clock.watching(
            (predictor, "preprocess", "letterbox"),
            (ultralytics_nms, "non_max_suppression", "nms"),
            (predictor, "construct_results", "masks+rle"),
            (reference_loop.coco_mask, "encode", "masks+rle"),
            (reference_loop.coco_mask, "area", "masks+rle"),
            (reference_loop.coco_mask, "toBbox", "masks+rle"),
            (reference_loop.np, "asfortranarray", "masks+rle"),
            (reference, "crop", "crops"),
            (reference, "preprocess", "crops"),
            (reference.clip, "encode_image", "clip"),
        ),
    ):
        for path in paths:
            with clock("read"):
                path.read_bytes()
            with clock("decode"):
                image = Image.open(path).convert("RGB")
            rows += reference.segment_photograph(path.name, image)
        with clock("write"):
            reference_loop.write_rows(rows, output)
    return dict(clock.seconds)


def run_ours(pair: Pair, paths: list[Path], output: Path) -> dict[str, float]:
    """CPU seconds by stage of the same photographs as one unit, through the package's own unit and commit."""
    clock, segmenter, embedder = StageClock(), pair.segmenter, pair.embedder

    models = {"segmenter": {"name": "builtin", "sha256": {}, "licence": ""}, "embedder": None}
    info = describe("", {}, models, embedder.dim)
    with (
        clock("other"),
        replaced(segmenter, "network", pair.network(clock.timed("forward", segmenter.network.forward))),
        clock.watching(
            (unit_module, "_decode", "decode"),
            (segmenter_module, "letterboxed", "letterbox"),
            (segmenter_module, "keep_best", "nms"),
            (segmenter, "masks", "masks+rle"),
            (embedder, "embed_crops", "clip"),
        ),
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(replaced(embedder, "crops_of", _each(clock, "crops", embedder.crops_of)))
        images = []
        for path in paths:
            with clock("read"):
                images.append(EncodedImage(path.name, str(path), path.read_bytes()))
        options = unit_module.UnitOptions(crop=pair.crop, min_area=MIN_AREA)
        result = unit_module.process_unit(UnitBytes("u-0", "", False, tuple(images)), segmenter, embedder, options)
        with clock("write"):
            commit_unit(str(output), info, result)
    return dict(clock.seconds)


def _each(clock: StageClock, stage: str, function):
    """A function that makes an iterator, each step of which is counted."""

    def inner(*arguments):
        items = iter(function(*arguments))
        while True:
            with clock(stage):
                item = next(items, None)
            if item is None:
                return
            yield item

    return inner


def work_of(pair: Pair, paths: list[Path], output: Path) -> Work:
    """What the average photograph asked of each stage, from what we wrote about it."""
    segmenter, embedder = pair.segmenter, pair.embedder
    table = pq.read_table(output / "masks" / "u-0.parquet").to_pylist()
    written = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    side, kinds = embedder.image_size, len(CROP_KINDS[pair.crop])
    clip_operations = operations(embedder.embed_crops, np.zeros((1, side, side, 3), np.uint8))
    clip_bytes = weights_bytes(pair.reference.clip.visual)
    segmenter_bytes = weights_bytes(pair.reference.fastsam.model)
    works = []
    for path in paths:
        with Image.open(path) as image:
            image_hw = image.size[::-1]
        masks = [row for row in table if row["image_id"] == path.name]
        letterbox = letterbox_of(image_hw, segmenter.imgsz)
        height, width = letterbox.input_hw
        anchors = sum((height // stride) * (width // stride) for stride in made_models.STRIDES)
        share = letterbox.resized_hw[0] * letterbox.resized_hw[1] / (image_hw[0] * image_hw[1])
        crops = kinds * sum(row["area"] >= MIN_AREA for row in masks)
        pixels = torch.zeros(1, 3, height, width)
        works.append(
            Work(
                file_bytes=path.stat().st_size,
                image_pixels=image_hw[0] * image_hw[1],
                input_pixels=height * width,
                forward_operations=operations(segmenter.network.forward, pixels, segmenter.conf),
                forward_bytes=segmenter_bytes + FLOAT * (3 * height * width + 37 * anchors + 2 * height * width),
                anchors=anchors,
                candidates=len(masks) * (made_models.CANDIDATES if pair.made else 2),
                masks=len(masks),
                prototype_bytes=2 * height * width * FLOAT,  # 32 planes of a sixteenth
                box_cells=sum(row["bbox"][2] * row["bbox"][3] for row in masks) * share / 16,
                rle_bytes=sum(len(row["rle"]["counts"]) for row in masks),
                crops=crops,
                crop_pixels=side * side,
                clip_operations=crops * clip_operations,
                clip_bytes=clip_bytes * min(crops / embedder.batch_size, 1),
                written_bytes=written / len(paths),
            )
        )
    return mean_work(works)


def weights_bytes(module: torch.nn.Module) -> int:
    """Of a network's parameters."""
    return sum(parameter.nbytes for parameter in module.parameters())


def profile(models: str, options: argparse.Namespace, rates: tuple[float, float]) -> dict:
    """Milliseconds an image by stage of both sides, with floors, for one pair of models."""
    images = options.images if models == "builtin" else options.large_images
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = make_photographs(folder / "photos", images, options.long_side)
        torch.set_num_threads(1)
        pair = load_pair(folder, models, paths, crop=options.crop, masks=options.masks)
        run_ours(pair, paths[:1], folder / "warm")
        for number in range(options.rounds):
            theirs.append(run_reference(pair, paths, folder / f"{number}.parquet"))
            ours.append(run_ours(pair, paths, folder / f"corpus-{number}"))
        work = work_of(pair, paths, folder / "corpus-0")
        reference_masks = pq.read_metadata(folder / "0.parquet").num_rows / images
    bandwidth, rate = rates
    rows = {}
    for stage in STAGES:
        moved, done = floors(work).get(stage, (0.0, 0.0))
        rows[stage] = {
            "reference_ms": 1000 * statistics.median(run.get(stage, 0.0) for run in theirs) / images,
            "our_ms": 1000 * statistics.median(run.get(stage, 0.0) for run in ours) / images,
            "floor_ms": 1000 * max(moved / bandwidth, done / rate),
            "megabytes": moved / 1e6,
            "million_operations": done / 1e6,
        }
    return {
        "models": models,
        "images": images,
        "long_side": options.long_side,
        "crop": options.crop,
        "masks_per_image": work.masks,
        "reference_masks_per_image": reference_masks,
        "stages": {stage: {key: round(value, 4) for key, value in row.items()} for stage, row in rows.items()},
    }


def text_table(found: dict) -> str:
    """The profile as text, with its sums."""
    lines = [
        f"{found['models']}, {found['masks_per_image']:.1f} masks an image; ms of one thread an image",
        f"{'stage':<10}{'reference':>11}{'ours':>10}{'ratio':>8}{'floor':>10}{'ours/floor':>12}{'MB':>9}{'M ops':>11}",
    ]
    rows = {**found["stages"], "sum": {}}
    for key in ("reference_ms", "our_ms", "floor_ms", "megabytes", "million_operations"):
        rows["sum"][key] = sum(row[key] for row in found["stages"].values())
    for stage, row in rows.items():
        ratio = f"{row['reference_ms'] / row['our_ms']:.1f}" if row["our_ms"] else "-"
        above = f"{row['our_ms'] / row['floor_ms']:.1f}" if row["floor_ms"] else "-"
        lines.append(
            f"{stage:<10}{row['reference_ms']:>11.2f}{row['our_ms']:>10.2f}{ratio:>8}{row['floor_ms']:>10.3f}{above:>12}"
            f"{row['megabytes']:>9.2f}{row['million_operations']:>11.1f}"
        )
    return "\n".join(lines)


def plot(profiles: list[dict], path: Path) -> None:
    """Stacked bars, a panel for each pair of models: the reference, ours and the floor."""
    from matplotlib.colors import TABLEAU_COLORS

    figure = new_figure(4 * len(profiles) + 1.5, 4)
    sides = ("reference_ms", "our_ms", "floor_ms")
    for axes, found in zip(np.atleast_1d(figure.subplots(1, len(profiles))), profiles, strict=True):
        below = np.zeros(len(sides))
        for stage, colour in zip(STAGES, TABLEAU_COLORS.values(), strict=True):
            heights = np.array([found["stages"][stage][side] for side in sides])
            axes.bar(
                ("reference", "fastsam-batch", "floor"), heights, bottom=below, label=stage, color=colour, width=0.6
            )
            below += heights
        for place, height in enumerate(below):
            axes.text(place, height, f"{height:.0f}", ha="center", va="bottom")
        axes.set_title(f"{found['models']}, {found['masks_per_image']:.0f} masks an image", fontsize=10)
        axes.set_ylabel("ms an image, one thread")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("builtin", "s", "x"), default=["builtin"])
    parser.add_argument("--images", type=int, default=10, help="with the built-in models")
    parser.add_argument("--large-images", type=int, default=1, help="with the large ones")
    parser.add_argument("--long-side", type=int, help="scale the photographs; default: as they ship")
    parser.add_argument("--masks", type=int, default=100, help="an image, with the large models")
    parser.add_argument("--crop", choices=tuple(CROP_KINDS), default="both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="PNG of stacked bars")
    options = parser.parse_args()
    rates = machine.memory_bandwidth(), machine.matrix_rate()
    profiles = []
    for models in options.models:
        profiles.append(profile(models, options, rates))
        print(text_table(profiles[-1]), file=sys.stderr, flush=True)
    if options.plot:
        plot(profiles, options.plot)
    summary = {
        "machine": machine.name(),
        "bandwidth_gb_s": round(rates[0] / 1e9, 2),
        "matrix_gflop_s": round(rates[1] / 1e9, 1),
        "profiles": profiles,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
