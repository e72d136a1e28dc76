"""Masks with names for the captioned photographs, from a network that knows the 80 COCO things.

python -m training.things --data DATA --weights yolo11n-seg.pt --output things.json

Its word is taken where it is sure, or half sure and a caption names the thing too.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from fastsam_batch.errors import InputError
from fastsam_batch.masks.boxes import boxes_to_image, letterbox_of
from fastsam_batch.masks.prototypes import encode_masks
from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.network import load_network
from fastsam_batch.models.segmenter import COEFFICIENTS, letterboxed
from training.clip.nouns import nouns_of
from training.command import told
from training.photographs import Photograph, read_data, read_image
from training.taught import TaughtMask, taught_by, write_taught

log = logging.getLogger("training.things")

SURE, SURE_IF_CAPTIONED = 0.5, 0.3  # least scores
SAME_IOU = 0.6  # boxes of one name that overlap so are one thing


@dataclass(frozen=True)
class NamedThing:
    """A thing that a network found: its mask, its name's place among the network's classes, the network's score."""

    rle: Rle
    name: int
    score: float


class ThingFinder:
    """A YOLO segmentation network of so many classes, on a device. Raises InputError for one of another number."""

    def __init__(self, weights: Path, classes: int, imgsz: int = 640, device: str = "cpu") -> None:
        self.network = load_network(weights, torch.device(device))
        self.imgsz, self.device = imgsz, device
        found = self._forward(np.zeros((32, 32, 3), np.uint8), 1.0)[0].shape[0] - 4 - COEFFICIENTS
        if found != classes:
            raise InputError(f"{weights}: knows {found} classes, not the {classes} of coco-masks")

    def find(self, image: NDArray[np.uint8], least: float) -> list[NamedThing]:
        """What is in an image, uint8 RGB [height, width, 3], with scores above `least`, the surest first."""
        image_hw = (image.shape[0], image.shape[1])
        letterbox = letterbox_of(image_hw, self.imgsz, self.network.stride)
        predictions, prototypes = self._forward(letterboxed(image, letterbox), least)
        scores, names = predictions[4:-COEFFICIENTS].max(0)
        likely = scores > least
        centres, sizes = predictions[:2, likely].T, predictions[2:4, likely].T
        boxes = torch.cat([centres - sizes / 2, centres + sizes / 2], 1)
        scores, names = scores[likely], names[likely]
        kept = batched_nms(boxes, scores, names, SAME_IOU)
        boxes_xyxy = boxes_to_image(boxes[kept].numpy(), letterbox)
        coefficients = predictions[-COEFFICIENTS:, likely].T[kept].numpy()
        masks = encode_masks(prototypes.numpy(), coefficients, boxes_xyxy, image_hw)
        rows = kept[torch.from_numpy(np.asarray(masks.kept))]
        return [
            NamedThing(Rle(image_hw, counts), int(name), float(score))
            for counts, name, score in zip(masks.counts, names[rows], scores[rows], strict=True)
        ]

    @torch.inference_mode()
    def _forward(self, pixels: NDArray[np.uint8], least: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Predictions [4 + classes + 32, anchors], those with a score above `least` at any rate, and prototypes
        [32, h / 4, w / 4] of one input, on the CPU.
        """
        inputs = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1)[None].float().div_(255)
        predictions, prototypes = self.network.forward(inputs.contiguous(memory_format=torch.channels_last), least)
        return predictions[0].float().cpu(), prototypes[0].float().cpu()


def things_of(photograph: Photograph, finder: ThingFinder, names: list[str]) -> list[TaughtMask]:
    """What the finder may be believed of a captioned photograph, the surest first."""
    nouns = {noun for caption in photograph.captions for noun in nouns_of(caption)}
    return [
        TaughtMask(thing.rle, thing.score, names[thing.name])
        for thing in finder.find(read_image(photograph.path), SURE_IF_CAPTIONED)
        if thing.score >= SURE or names[thing.name] in nouns
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write the file; exit status 2 with a sentence for input that cannot be used."""
    return told(_run, _parser().parse_args(arguments))


def _run(options: argparse.Namespace) -> None:
    data = read_data(options.data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    finder = ThingFinder(options.weights, len(data.coco_names), options.imgsz, device)
    captioned = [photograph for photograph in data.train if photograph.captions]
    taught = taught_by(lambda photograph: things_of(photograph, finder, data.coco_names), captioned)
    counts = Counter(mask.name for masks in taught.values() for mask in masks)
    log.info("%s", ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    write_taught(taught, options.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.things", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-masks and coco-captions")
    parser.add_argument("--weights", type=Path, required=True, help="a YOLO segmentation checkpoint of the COCO names")
    parser.add_argument("--output", type=Path, required=True, help="file for --taught of training.clip and .segmenter")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
