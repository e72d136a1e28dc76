"""From a data folder to a published segmenter: scenes, training, evaluation, export. See --help."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastsam_batch.errors import InputError
from training.command import told
from training.photographs import Data, Photograph, read_data, split
from training.segmenter.compose import Composer
from training.segmenter.evaluate import evaluate
from training.segmenter.foretell import Foreteller
from training.segmenter.network import blended, build, export
from training.segmenter.pictures import all_cutouts, pictures_in, read_labelled
from training.segmenter.train import Plan, glimpses, train
from training.taught import read_taught

MEASURED = 64  # parts of photographs whose features stand for those of all

log = logging.getLogger("training.segmenter")


def main(arguments: list[str] | None = None) -> int:
    """Run the recipe; exit status 2 with a sentence for input that cannot be used."""
    return told(run, _parser().parse_args(arguments))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Read the data, train, export, evaluate; returns what metrics.json holds."""
    if options.foretell and not options.features:
        raise InputError("--foretell: what is to be foretold? name a network's weights as --features")
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    data = read_data(options.data)
    second, photographs = split(data.train, options.second)
    held_out = {"validation": data.validation, "second": second}
    taught = read_taught(options.taught, photographs)
    composer = compose(
        photographs, pictures_in(options.sprites), pictures_in(options.backgrounds), options.seed, taught
    )
    log.info("%d photographs, %d cut-outs", len(composer.labelled), len(composer.cutouts))
    log.info("%d taught photographs, %d cut-outs of them", len(composer.taught), len(composer.taught_cutouts))
    model = build(options.form, options.start).to(device)
    foreteller = None
    if options.features:
        foreteller = Foreteller(model, options.features, glimpses(composer, MEASURED, options.sizes[0][1], device))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = Plan(
        seconds=options.seconds,
        steps=options.steps,
        batch=options.batch,
        lr=options.lr,
        sizes=options.sizes,
        constant=options.constant,
        foretell=options.foretell,
    )
    published = output / "segmenter.safetensors"
    defaults = {"imgsz": options.imgsz, "conf": options.conf, "iou": options.iou}

    def figures(average: torch.nn.Module) -> dict[str, dict[str, float]]:
        mixed = blended(average, start, options.blend) if options.blend else average
        export(mixed, published, options.form, defaults)
        return {
            name: evaluate(published, of_name, options.imgsz, options.iou, device=device)
            for name, of_name in held_out.items()
            if of_name
        }

    def report(average: torch.nn.Module, progress: float) -> None:
        log.info("at %.0f%%: %s", 100 * progress, json.dumps(figures(average)))

    average, history = train(
        model,
        composer,
        plan,
        output,
        foreteller=foreteller,
        seed=options.seed,
        resume=options.resume,
        on_report=report,
    )
    metrics = {
        **_record(options, data),
        "device": device,
        "train_photographs": len(composer.labelled),
        "train_masks": sum(len(photograph.masks) for photograph in composer.labelled),
        "cutouts": len(composer.cutouts),
        "sprites": len(composer.sprites),
        "plain_photographs": len(composer.plain),
        "taught_photographs": len(composer.taught),
        "taught_masks": sum(len(photograph.masks) for photograph in composer.taught),
        "taught_cutouts": len(composer.taught_cutouts),
        "second_files": sorted(photograph.path.name for photograph in second),
        "steps": len(history),
        "losses": [round(loss, 4) for loss in history],
        "figures": figures(average),
    }
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1, default=str), encoding="utf-8")
    log.info("%s", json.dumps(metrics["figures"]))
    return metrics


def compose(
    photographs: list[Photograph],
    sprites: list[Path],
    backgrounds: list[Path],
    seed: int,
    taught: Sequence[Photograph] = (),
) -> Composer:
    """A Composer over labelled photographs, captioned ones as plain ones, sprites, backgrounds and taught ones."""
    labelled = [read_labelled(photograph) for photograph in photographs if photograph.things]
    plain = [photograph.path for photograph in photographs if photograph.captions] + backgrounds
    learnt = [read_labelled(photograph) for photograph in taught]
    rng = np.random.default_rng(seed)
    unlabelled = [photograph.path for photograph in photographs if not photograph.things and not photograph.captions]
    return Composer(labelled, all_cutouts(labelled), sprites, plain, rng, learnt, all_cutouts(learnt), unlabelled)


def _record(options: argparse.Namespace, data: Data) -> dict[str, Any]:
    return {
        "recipe": vars(options),
        "data_sha256": data.digests,
        "validation_files": sorted(photograph.path.name for photograph in data.validation),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "ultralytics", "numpy", "opencv-python")},
        },
    }


def _sizes(text: str) -> tuple[tuple[float, int], ...]:
    """256,320:0.5,416:0.8 -> 256 px at first, 320 px from half of the run on, 416 px from .8 on."""
    begins = []
    for part in text.split(","):
        side, _, begin = part.partition(":")
        if int(side) % 32:
            raise argparse.ArgumentTypeError(f"{side} is not a multiple of 32")
        begins.append((float(begin or 0), int(side)))
    ends = [begin for begin, _ in begins[1:]] + [1.0]
    return tuple((end, side) for end, (_, side) in zip(ends, begins, strict=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.segmenter", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-masks and what else there is")
    parser.add_argument("--output", type=Path, required=True, help="folder of the published file")
    parser.add_argument("--sprites", type=Path, help="folder of pictures with opacity")
    parser.add_argument("--backgrounds", type=Path, help="folder of pictures to paste objects on")
    parser.add_argument(
        "--taught",
        type=Path,
        nargs="+",
        default=[],
        help="masks for captioned photographs, from training.things and training.segmenter.teach",
    )
    parser.add_argument(
        "--features", type=Path, help="a YOLO checkpoint of the COCO names; what it sees is learnt to be foretold"
    )
    parser.add_argument(
        "--foretell", type=float, default=0.0, help="share of the run in which nothing else is learnt; needs --features"
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--seconds", type=float, help="train for so long, by the clock")
    length.add_argument("--steps", type=int, help="train for so many steps")
    parser.add_argument("--start", default="none", help="weights to start from: none, builtin or a file")
    parser.add_argument("--blend", type=float, default=0.0, help="share of the start's weights in the published ones")
    parser.add_argument("--form", default="n", choices=list("nsmlx"), help="of YOLOv8-seg")
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default="256,320:0.35,416:0.55,480:0.75,640:0.85",
        help="scenes' sides and when they begin",
    )
    parser.add_argument("--batch", type=int, default=8, help="scenes a step at the first size")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--constant", type=float, default=0.3, help="share of the run until which the rate stays")
    parser.add_argument("--second", type=int, default=40, help="photographs of coco-masks-more kept apart")
    parser.add_argument("--imgsz", type=int, default=640, help="at which it is evaluated, and its default")
    parser.add_argument("--conf", type=float, default=0.1, help="its default")
    parser.add_argument("--iou", type=float, default=0.6, help="its default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT/checkpoint.pt")
    return parser


if __name__ == "__main__":
    sys.exit(main())
