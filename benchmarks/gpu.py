"""Everything about speed on one CUDA machine, in one command, with what was measured as JSON on the last line.

python benchmarks/gpu.py | tee benchmarks/results/gpu-$(hostname).json

For each segmenter (untrained YOLOv8s-seg and YOLOv8x-seg of one class at 1024 pixels, whose detections are replaced by
`--masks` made ones), each of `--precisions`, and both embedding modes of an untrained ViT-B/32: images a
second through one unit in memory, against the reference loop on the same device in turn; peak memory of the device and
the share of time it was busy, as nvidia-smi samples it. Then the mask stage alone (`mask_stage.py`), TensorRT's engine
of each segmenter where it can be built, and the real job on Ray where that is installed, with the built-in models.
`--device cpu` tries the script out.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import machine
import torch
from made_models import fastsam_checkpoint
from made_photographs import make_photographs
from mask_stage import measured
from pairs import Pair, load_pair
from PIL import Image
from stage_clock import replaced

from fastsam_batch.models.exporter import ENGINE_BATCH, export_segmenter
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.resources import THREADS_A_GPU
from fastsam_batch.sources.base import EncodedImage, UnitBytes
from fastsam_batch.unit import UnitOptions, process_unit

SAMPLE_MS = 100


class Busy:
    """The share of time a GPU ran anything, sampled by nvidia-smi while the block runs; None without it."""

    def __enter__(self) -> Busy:
        program = shutil.which("nvidia-smi")
        self.share: float | None = None
        self._process = None
        if program and torch.cuda.is_available():
            device = f"GPU-{torch.cuda.get_device_properties(0).uuid}"  # the first that this process may use
            query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", str(SAMPLE_MS)]
            self._process = subprocess.Popen([program, "-i", device, *query], stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        printed, _ = self._process.communicate()
        samples = [int(line) for line in printed.split() if line.isdigit()]
        self.share = round(statistics.mean(samples) / 100, 3) if samples else None


def measure(pair: Pair, paths: list[Path], mode: str, rounds: int, loop_images: int) -> dict:
    """Images a second of both sides, by turns."""
    device = pair.segmenter.device.type
    images = tuple(EncodedImage(path.name, str(path), path.read_bytes()) for path in paths)
    options = UnitOptions(crop=pair.crop if mode == "crop" else "masked", embedding_mode=mode)  # as the job by default

    def ours(count: int):
        unit = UnitBytes("u", "", False, images[:count])
        return process_unit(
            unit, pair.segmenter, pair.embedder, options, workers=min(os.cpu_count() or 1, THREADS_A_GPU)
        )

    def loop(count: int) -> int:
        photographs = (Image.open(path).convert("RGB") for path in paths[:count])
        return sum(len(pair.reference.segment_photograph("", photograph)) for photograph in photographs)

    loop(1)  # Ultralytics sets itself up at first use
    predictor = pair.reference.fastsam.predictor
    plain = pair.segmenter.network.forward
    with (
        replaced(pair.segmenter, "network", pair.network(plain)),
        replaced(predictor, "inference", pair.reference_inference(predictor.inference)),
    ):
        ours(min(2 * pair.segmenter.batch_size, len(images)))
        loop(1)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        seconds, stages = [], []
        with Busy() as busy:
            for _ in range(rounds):
                began = time.perf_counter()
                result = ours(len(images))
                seconds.append(time.perf_counter() - began)
                stages.append(result.stages)
        peak = torch.cuda.max_memory_allocated() - before if device == "cuda" else 0
        loop_seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            loop_masks = loop(loop_images)
            loop_seconds.append(time.perf_counter() - began)
    ours_rate = len(images) / statistics.median(seconds)
    loop_rate = loop_images / statistics.median(loop_seconds)
    best = stages[seconds.index(min(seconds))]
    return {
        "masks_per_image": result.masks.num_rows / len(images),
        "loop_masks_per_image": loop_masks / loop_images,
        "our_images_per_second": round(ours_rate, 2),
        "loop_images_per_second": round(loop_rate, 2),
        "ratio": round(ours_rate / loop_rate, 1),
        "device_busy_share": busy.share,
        "peak_device_mib_above_models": round(peak / 2**20),
        "stage_ms_an_image": {name: round(1000 * spent / len(images), 2) for name, spent in best.items()},
    }


def mask_stage_alone(device: str, masks: int, imgsz: int, rounds: int) -> dict:
    """The mask stage alone, of a photograph of 1500 x 2250."""
    return measured(device=device, masks=masks, imgsz=imgsz, rounds=rounds, height=1500, width=2250, seed=0)


def tensorrt(size: str, folder: Path, batch_size: int) -> dict:
    """Milliseconds an image of the network alone, torch against its TensorRT engine, both in float16."""
    checkpoint = folder / f"FastSAM-{size}.pt"
    if not checkpoint.exists():
        fastsam_checkpoint(checkpoint, size)
    engine = export_segmenter(str(checkpoint), "engine", folder / f"{size}.engine", half=True).main
    found: dict = {}
    batch_size = min(batch_size, ENGINE_BATCH)
    pixels = torch.rand(batch_size, 3, 768, 1024, device="cuda")
    for name, path in (("torch", checkpoint), ("tensorrt", engine)):
        segmenter = Segmenter(path, batch_size=batch_size, device="cuda", precision="float16")
        with torch.inference_mode():
            for tries in (5, 20):
                torch.cuda.synchronize()
                began = time.perf_counter()
                for _ in range(tries):
                    segmenter.network.forward(pixels, segmenter.conf)
                torch.cuda.synchronize()
        found[f"{name}_ms_an_image"] = round(1000 * (time.perf_counter() - began) / tries / batch_size, 3)
    return found


def with_ray(paths: list[Path], folder: Path, device: str, masks: int, images: int) -> dict:
    """The real job, built-in models, as many masks as the large ones are given, in eight units."""
    if find_spec("ray") is None:
        return {"skipped": "ray is not installed"}
    from fastsam_batch.config import segment_options
    from fastsam_batch.run import segment_corpus

    os.environ.setdefault("RAY_ADDRESS", "local")
    many = folder / "many"
    many.mkdir()
    for number in range(images):
        path = paths[number % len(paths)]
        (many / f"{number:05d}{path.suffix}").hardlink_to(path)
    values = {"input": str(many), "output": str(folder / "corpus"), "device": device, "unit_size": max(images // 8, 1)}
    with Busy() as busy:
        summary = segment_corpus(segment_options({**values, "conf": 0.001, "iou": 0.9, "max_masks": masks}))
    return {
        "images": summary["images"],
        "masks_per_image": summary["masks"] / max(summary["images"], 1),
        "images_per_second": summary["images_per_second"],
        "device_busy_share_with_start": busy.share,
        "stages": summary["stages"],
    }


def kept(measure: Callable[..., dict], *arguments: object) -> dict:
    """What a part measured, or why it could not: the figures of the others are not lost with it."""
    try:
        return measure(*arguments)
    except Exception as error:  # noqa: BLE001 - a GPU's libraries raise what they like
        return {"skipped": f"{type(error).__name__}: {error}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--sizes", nargs="+", choices=("s", "x", "builtin"), default=["s", "x"])
    parser.add_argument("--modes", nargs="+", choices=("crop", "pool"), default=["crop", "pool"])
    parser.add_argument("--precisions", nargs="+", default=["auto", "float32"], help="as --precision of the job")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--loop-images", type=int, default=8, help="for the reference loop, which is slower")
    parser.add_argument("--long-side", type=int, default=2250)
    parser.add_argument("--masks", type=int, default=100, help="an image")
    parser.add_argument("--crop", choices=("masked", "context", "both"), default="both")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--ray-images", type=int, default=1024, help="for the job on Ray")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "gpu.py: this machine has no CUDA device; --device cpu --sizes builtin --images 2 tries the script out"
        )
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = make_photographs(folder / "photos", options.images, options.long_side)
        for size, mode, kind in itertools.product(options.sizes, options.modes, options.precisions):
            given = {"crop": options.crop, "masks": options.masks, "device": options.device, "mode": mode}
            pair = load_pair(folder, size, paths, **given, batch_size=options.batch_size, precision=kind)
            found = measure(pair, paths, mode, options.rounds, min(options.loop_images, len(paths)))
            runs.append({"segmenter": size, "mode": mode, "precision": kind, **found})
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
            del pair
            gc.collect()
            torch.cuda.empty_cache()  # for what comes next, also in other processes
        mask_stage = [mask_stage_alone(options.device, options.masks, imgsz, options.rounds) for imgsz in (640, 1024)]
        engines = []
        if options.device == "cuda":
            engines = [
                {"segmenter": size, **kept(tensorrt, size, folder, options.batch_size)}
                for size in options.sizes
                if size != "builtin"
            ]
        ray = {"skipped": "--without-ray"}
        if not options.without_ray:
            ray = kept(with_ray, paths, folder, options.device, options.masks, options.ray_images)
    summary = {
        "machine": machine.name(),
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,  # False once float32 was measured
        "torch": torch.__version__,
        "images": options.images,
        "long_side": options.long_side,
        "crop": options.crop,
        "batch_size": options.batch_size,
        "mask_stage": mask_stage,
        "runs": runs,
        "tensorrt": engines,
        "ray": ray,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
