"""From a data folder to a published CLIP: crops, training, evaluation, export. See --help."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastsam_batch.errors import InputError
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import BUILTIN_FOLDER, find_segmenter
from training.clip.batches import SHARES, Sampler
from training.clip.crops import all_crops, read_crops, write_crops
from training.clip.evaluate import evaluate
from training.clip.export import export
from training.clip.features import Seer
from training.clip.model import FILL_RGB, build, configuration, published, take_image_tower
from training.clip.sprites import sprite_crops
from training.clip.text import text_bank
from training.clip.train import Plan, train
from training.command import told
from training.photographs import Data, read_data
from training.segmenter.pictures import pictures_in
from training.taught import read_taught

log = logging.getLogger("training.clip")
SEGMENTER_SIDE = 320  # the captioned photographs' long side


def main(arguments: list[str] | None = None) -> int:
    """Run the recipe; exit status 2 with a sentence for input that cannot be used."""
    return told(run, _parser().parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Make the crops unless they are there, train, export, evaluate; returns what metrics.json holds."""
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    if options.foretell and not options.features:
        raise InputError("--foretell: what is to be foretold? name a network's weights as --features")
    data = read_data(options.data)
    cache: Path = options.crops or output / "crops"
    if not (cache / "rows.json").is_file():
        log.info("making the crops of %d photographs", len(data.train))
        segmenter = None
        if options.segmenter != "none":
            segmenter = Segmenter(find_segmenter(options.segmenter).main, imgsz=SEGMENTER_SIDE, device=device)
        taught = {each.path: each for each in read_taught(options.taught, data.train)}
        photographs = [taught.get(photograph.path, photograph) for photograph in data.train]
        made = all_crops(photographs, segmenter, options.size, FILL_RGB)
        sprites = sprite_crops(
            pictures_in(options.sprites),
            [photograph.path for photograph in data.train if photograph.captions],
            options.size,
            FILL_RGB,
            np.random.default_rng(options.seed),
        )
        write_crops(itertools.chain(made, sprites), cache, options.size)
    crops = read_crops(cache)
    config = configuration(options.size, options.tower)
    model = build(config, options.text_tower)
    if options.start:
        take_image_tower(model, options.start)
    model.to(device)
    teachers = [published(folder).to(device, memory_format=torch.channels_last) for folder in options.teachers]
    bank = text_bank(model, crops.rows, data.coco_names)
    seer = Seer(options.features, crops, device) if options.features else None
    sampler = Sampler(crops, bank, FILL_RGB, options.seed, options.taught_share, seer is not None)
    log.info("%d crops, %d names, %d captions", len(crops.rows), len(bank.names), len(bank.captions))
    plan = Plan(
        seconds=options.seconds,
        steps=options.steps,
        batch=options.batch,
        lr=options.lr,
        size=options.size,
        grow=not options.start,
        foretell=options.foretell,
    )

    def publish(average: torch.nn.Module, progress: float) -> None:
        export(average, config, output)
        found = evaluate(Embedder(f"local-dir:{output}", device=device), data.validation, data.coco_names)
        log.info("at %.0f%%: %s", 100 * progress, json.dumps(found))

    average, history = train(
        model,
        sampler,
        bank,
        plan,
        output,
        seed=options.seed,
        resume=options.resume,
        on_save=publish,
        teachers=teachers,
        seer=seer,
    )
    export(average, config, output)
    embedder = Embedder(f"local-dir:{output}", device=device)
    metrics = {
        **_record(options, data),
        "device": device,
        "crops": len(crops.rows),
        "names": len(bank.names),
        "steps": len(history),
        "losses": [round(loss, 4) for loss in history],
        "validation": evaluate(embedder, data.validation, data.coco_names),
    }
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1, default=str), encoding="utf-8")
    log.info("%s", json.dumps(metrics["validation"]))
    return metrics


def _record(options: argparse.Namespace, data: Data) -> dict[str, Any]:
    return {
        "recipe": vars(options),
        "data_sha256": data.digests,
        "train_photographs": len(data.train),
        "validation_files": sorted(photograph.path.name for photograph in data.validation),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "timm", "open-clip-torch", "numpy", "opencv-python")},
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.clip", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-masks and what else there is")
    parser.add_argument("--output", type=Path, required=True, help="folder of the published files")
    parser.add_argument("--crops", type=Path, help="folder of the crops, made if missing (default OUTPUT/crops)")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float, help="train for so long")
    length.add_argument("--steps", type=int, help="train for so many steps")
    parser.add_argument("--batch", type=int, default=160, help="crops a step at the smallest size")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--size", type=int, default=112, help="side of a crop in pixels")
    parser.add_argument("--tower", default="resnet10t", help="timm name of the image tower")
    parser.add_argument("--text-tower", type=Path, default=BUILTIN_FOLDER / "clip", help="folder to take it from")
    parser.add_argument("--start", type=Path, help="folder to take the image tower from; default: from nothing")
    parser.add_argument(
        "--teachers", type=Path, nargs="+", default=[], help="folders of models whose mean vectors it follows as well"
    )
    parser.add_argument("--sprites", type=Path, help="folder of emoji with opacity, named by their code points")
    parser.add_argument("--segmenter", default="builtin", help="makes masks of captioned photographs; none for none")
    parser.add_argument(
        "--taught",
        type=Path,
        nargs="+",
        default=[],
        help="masks with names for captioned photographs (training.things)",
    )
    parser.add_argument("--taught-share", type=float, default=SHARES["taught"], help="of a batch, beside .42 of labels")
    parser.add_argument(
        "--features", type=Path, nargs="+", help="YOLO weights whose features of each crop are to be foretold too"
    )
    parser.add_argument(
        "--foretell", type=float, default=0.0, metavar="SHARE", help="of the run, in which nothing else is learnt"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT/checkpoint.pt")
    return parser


if __name__ == "__main__":
    sys.exit(main())
