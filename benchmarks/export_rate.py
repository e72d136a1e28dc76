"""Masks a minute and peak memory of each label format, on a synthetic corpus made through the real writer.

Images have `--image-hw` pixels and `--per-image` masks: wobbly blobs whose radii are drawn log-uniformly from 10
pixels to a third of the image's short side, one in five with a hole, one in ten in two parts. They are taken from
a pool of `--pool` different ones. Each format runs in a process of its own, start-up included, class-agnostic and
without photographs, as a user's command would. With `--corpus` the corpus is made once and kept, so that formats can
be measured one at a time, and `--output` adds them to what a file holds already; a corpus or a file of other numbers
is refused:

    python benchmarks/export_rate.py --corpus /tmp/corpus --formats yolo --output benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from machine import short_name

from fastsam_batch.corpus.info import describe, write_info
from fastsam_batch.corpus.rows import ImageResult, MaskColumns, UnitResult, images_table, masks_table
from fastsam_batch.corpus.write import commit_unit
from fastsam_batch.masks.rle import Rle, tight_box
from fastsam_batch.masks.runs import rle_of, runs_of_pixels

ROOT = Path(__file__).resolve().parents[1]
DIM = 256
UNIT_IMAGES = 128
FORMATS = {
    "coco rle": ["coco"],
    "coco polygon": ["coco", "--shape", "polygon"],
    "coco-results": ["coco-results"],
    "sa1b": ["sa1b"],
    "yolo": ["yolo", "--images", "none"],
    "label-studio polygon": ["label-studio"],
    "label-studio brush": ["label-studio", "--shape", "rle"],
    "cvat xml": ["cvat"],
    "cvat zip": ["cvat"],
}
ENDINGS = {"cvat xml": ".xml", "cvat zip": ".zip"}


def blob(rng: np.random.Generator, image_hw: tuple[int, int]) -> tuple[Rle, int, tuple[int, int, int, int]]:
    """One mask, its area and its tight box."""
    height, width = image_hw
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = np.exp(rng.uniform(np.log(10), np.log(min(image_hw) / 3)))
    edge = radius * (1 + 0.15 * np.sin(5 * angle + rng.uniform(0, 6)) + 0.05 * np.sin(17 * angle))
    edge *= 1 + 0.01 * rng.normal(size=len(angle))
    side = int(2.6 * radius) + 4
    outline = (np.stack([np.cos(angle), np.sin(angle)], 1) * edge[:, None] + side / 2).round().astype(np.int32)
    pixels = np.zeros((side, side), np.uint8)
    cv2.fillPoly(pixels, [outline], 1)
    if rng.random() < 0.2:
        cv2.circle(pixels, (side // 2, side // 2), max(int(radius / 3), 1), 0, -1)
    if rng.random() < 0.1:
        pixels[:, side // 2 - 1 : side // 2 + 1] = 0
    left, top = int(rng.integers(0, width - side // 2)), int(rng.integers(0, height - side // 2))
    runs = runs_of_pixels(pixels[: height - top, : width - left].astype(bool), left, top, height)
    return rle_of(runs, image_hw), runs.area, tight_box(runs.starts, runs.ends, height)


def make_corpus(uri: str, masks: int, per_image: int, image_hw: Sequence[int], pool: int, seed: int) -> int:
    """Commit the corpus; how many characters of RLE it holds."""
    rng = np.random.default_rng(seed)
    height, width = image_hw
    blobs = [blob(rng, (height, width)) for _ in range(pool)]
    embedder = {"name": "builtin", "sha256": {"made": "0" * 64}, "licence": "none"}
    info = describe("synthetic", {}, {"segmenter": embedder, "embedder": embedder}, DIM)
    write_info(uri, info)
    characters = 0
    for first in range(0, masks // per_image, UNIT_IMAGES):
        unit_id, results = f"unit-{first:08d}", []
        for number in range(first, min(first + UNIT_IMAGES, masks // per_image)):
            chosen = [blobs[index] for index in rng.integers(0, pool, per_image)]
            characters += sum(len(rle.counts) for rle, _, _ in chosen)
            columns = MaskColumns(
                scores=np.sort(rng.random(per_image).astype(np.float32))[::-1],
                stability=rng.random(per_image).astype(np.float32),
                areas=np.array([area for _, area, _ in chosen]),
                bboxes_xywh=np.array([box for _, _, box in chosen], np.float32),
                rles=[rle for rle, _, _ in chosen],
                embeddings=rng.normal(size=(per_image, DIM)).astype(np.float32),
                embedded=np.ones(per_image, bool),
            )
            name = f"shard.tar/{number:08d}.jpg"
            results.append(ImageResult(name, f"/nowhere/{name}", "0" * 64, (height, width), columns))
        tables = images_table(results, unit_id), masks_table(results, DIM)
        commit_unit(uri, info, UnitResult(unit_id, "shard.tar", False, *tables))
    return characters


def kept_corpus(corpus: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the corpus in a folder, which is made where there is none; they lie beside it.

    Exits with a sentence where another corpus is there, or one that is not whole.
    """
    about = corpus.with_suffix(".json")
    if about.exists():
        return read_made(about, asked, "--corpus")
    if corpus.exists():
        raise SystemExit(f"--corpus {corpus}: holds no whole corpus of this script, {about} is missing; remove it")
    characters = make_corpus(str(corpus), **asked)
    made = {**asked, "rle_characters_a_mask": round(characters / asked["masks"])}
    about.write_text(json.dumps(made))
    return made


def read_made(path: Path, asked: dict[str, Any], option: str) -> dict[str, Any]:
    """What a file says of a corpus. Exits with a sentence where that was not made as is asked for now."""
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, value in asked.items():
        if found.get(name) != value:
            raise SystemExit(f"{option}: {path} is of {name} {found.get(name)}, not {value}; name another folder")
    return found


def export(corpus: str, name: str, folder: str) -> dict[str, float]:
    """One format in a process of its own: its summary's figures, and its peak memory."""
    arguments = [str(ROOT / "jobs" / "export_labels.py"), "--corpus", corpus, "--format", *FORMATS[name]]
    output = f"{folder}/{name.replace(' ', '-')}{ENDINGS.get(name, '')}"
    began = time.perf_counter()
    read, write = os.pipe()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments, "--output", output],
        {**os.environ, "PYTHONPATH": str(ROOT)},
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_CLOSE, read)],
    )
    os.close(write)
    with open(read) as out:
        lines = out.read().splitlines()
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    if status:
        sys.exit(f"{name} failed")
    summary = json.loads(lines[-1])
    cpu_seconds = usage.ru_utime + usage.ru_stime
    figures = {
        "masks": summary["masks"],
        "seconds": round(seconds, 1),
        "masks_per_minute": round(60 * summary["masks"] / seconds),
        "cpu_seconds": round(cpu_seconds, 1),
        "masks_per_cpu_minute": round(60 * summary["masks"] / cpu_seconds),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }
    return figures | ({"mean_iou": summary["loss"]["mean_iou"]} if summary["loss"] else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=100_000)
    parser.add_argument("--per-image", type=int, default=100)
    parser.add_argument("--image-hw", type=int, nargs=2, default=[1500, 2250])
    parser.add_argument("--pool", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--corpus", type=Path, help="folder that holds the corpus, made where there is none")
    parser.add_argument("--output", type=Path, help="folder for export_rate-MACHINE.json")
    options = parser.parse_args()
    asked = {name: getattr(options, name) for name in ("masks", "per_image", "image_hw", "pool", "seed")}
    path = options.output and options.output / f"export_rate-{short_name()}.json"
    formats = read_made(path, asked, "--output")["formats"] if path and path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        corpus = options.corpus or Path(folder) / "corpus"
        result = {**kept_corpus(corpus, asked), "machine": short_name(), "formats": formats}
        for name in options.formats:
            result["formats"][name] = export(str(corpus), name, folder)
            if path:
                path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
