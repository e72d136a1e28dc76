"""Masks of every region of photographs without labels, from a Segment Anything network that is asked at many points.

python -m training.segmenter.regions --data DATA --weights mobile_sam.pt --output regions.json

Labels know things of 80 names; everything mode is to find their parts, the table they stand on and the sky as well.

Method: "Segment Anything", Kirillov et al. 2023, appendix B: a grid of points, three masks each, of which those are
kept that the network thinks good and that hardly change with the threshold, each once. "Faster Segment Anything",
Zhang et al. 2023: its small encoder.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from fastsam_batch.errors import InputError, first_line
from fastsam_batch.masks.rle import Rle
from training.command import told
from training.loop import mixed_precision
from training.photographs import read_data, read_image, split
from training.taught import TaughtMask, taught_by, write_taught

SIDE = 512  # pixels of the input: captioned photographs are small, and the network's own 1024 take four times as long
POINTS = 10  # along the longer side
LEAST_QUALITY, LEAST_STABILITY = 0.8, 0.85
SHIFT = 1.0  # of the threshold, for the stability
SAME_IOU = 0.7
MIN_AREA = 64  # pixels
MIN_PART = 0.05  # of a mask: a smaller separate part is a crumb
_AT_ONCE = 16  # points
_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class RegionFinder:
    """A MobileSAM on a device. Raises InputError for weights of anything else."""

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        from ultralytics.models.sam.build import build_mobile_sam

        self._network = build_mobile_sam()
        try:
            self._network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, pickle.UnpicklingError, AttributeError, TypeError) as error:
            raise InputError(f"{weights}: not the weights of a MobileSAM ({first_line(error)})") from error
        self._network.set_imgsz([SIDE, SIDE])
        self._network.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)

    def find(self, image: NDArray[np.uint8]) -> list[TaughtMask]:
        """The regions of uint8 RGB [height, width, 3], the surest first; their scores are quality times stability."""
        height, width = image.shape[:2]
        scale = SIDE / max(height, width)
        inner = (max(round(height * scale), 1), max(round(width * scale), 1))
        logits, quality = self._asked(self._input(image, inner), _grid(inner))
        of_image = [-(-side * logits.shape[1] // SIDE) for side in inner]
        logits = logits[:, : of_image[0], : of_image[1]]
        chosen, scores = _chosen(logits, quality)
        masks = []
        for each, score in zip(logits[chosen], scores, strict=True):
            full = torch.nn.functional.interpolate(each[None, None], (height, width), mode="bilinear")[0, 0]
            mask = _without_crumbs((full > 0).cpu().numpy().astype(np.uint8))
            if cv2.countNonZero(mask) >= MIN_AREA:
                counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode("ascii")
                masks.append(TaughtMask(Rle((height, width), counts), float(score)))
        return masks

    def _input(self, image: NDArray[np.uint8], inner: tuple[int, int]) -> torch.Tensor:
        """Float32 [1, 3, SIDE, SIDE], the image in its upper left corner."""
        way = cv2.INTER_AREA if inner[0] < image.shape[0] else cv2.INTER_CUBIC
        resized = cv2.resize(image, (inner[1], inner[0]), interpolation=way)
        normal = (torch.from_numpy(resized).float() - torch.tensor(_MEAN)) / torch.tensor(_DEVIATION)
        pixels = torch.zeros(1, 3, SIDE, SIDE)
        pixels[0, :, : inner[0], : inner[1]] = normal.permute(2, 0, 1)
        return pixels.to(self._device)

    @torch.inference_mode()
    def _asked(self, pixels: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [masks, s, s] of the whole input, and the quality [masks] that the network foretells of each."""
        network, logits, quality = self._network, [], []
        with mixed_precision(self._device):
            embedding = network.image_encoder(pixels)
            for some in points.to(self._device).split(_AT_ONCE):
                asked = (some[:, None], torch.ones(len(some), 1, device=self._device))
                sparse, dense = network.prompt_encoder(points=asked, boxes=None, masks=None)
                found, good = network.mask_decoder(
                    image_embeddings=embedding,
                    image_pe=network.prompt_encoder.get_dense_pe(),
                    sparse_prompt_embeddings=sparse,
                    dense_prompt_embeddings=dense,
                    multimask_output=True,
                )
                logits.append(found.float().flatten(0, 1))
                quality.append(good.float().flatten())
        return torch.cat(logits), torch.cat(quality)


def _grid(inner: tuple[int, int]) -> torch.Tensor:
    """Points float32 [n, 2] as x and y, evenly over an image of that height and width."""
    along = [max(round(POINTS * side / max(inner)), 2) for side in inner]
    y, x = ((torch.arange(count) + 0.5) * side / count for count, side in zip(along, inner, strict=True))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)


def _chosen(logits: torch.Tensor, quality: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the masks to keep among logits [n, h, w], best first, and their scores."""
    inside, outside = (logits > SHIFT).flatten(1).sum(1), (logits > -SHIFT).flatten(1).sum(1)
    stability = inside / outside.clamp(min=1)
    scores = quality * stability
    good = (quality >= LEAST_QUALITY) & (stability >= LEAST_STABILITY) & (inside > 0)
    order = torch.argsort(-scores, stable=True)
    order = order[good[order]]
    masks = (logits[order] > 0).flatten(1).float()
    both, areas = masks @ masks.T, masks.sum(1)
    overlaps = both / (areas[:, None] + areas - both)
    kept: list[int] = []
    for place in range(len(order)):
        if not (overlaps[place, kept] > SAME_IOU).any():
            kept.append(place)
    return order[kept], scores[order[kept]]


def _without_crumbs(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask, 0 or 1, without those of its separate parts that are below MIN_PART of it."""
    _, parts, found, _ = cv2.connectedComponentsWithStats(mask)
    areas = found[:, cv2.CC_STAT_AREA]
    large = areas >= MIN_PART * areas[1:].sum()
    large[0] = False
    return np.asarray(large[parts], np.uint8)


def main(arguments: list[str] | None = None) -> int:
    """Write the file; exit status 2 with a sentence for input that cannot be used."""
    return told(_run, _parser().parse_args(arguments))


def _run(options: argparse.Namespace) -> None:
    finder = RegionFinder(options.weights, "cuda" if torch.cuda.is_available() else "cpu")
    _, photographs = split(read_data(options.data).train, options.second)
    captioned = [photograph for photograph in photographs if photograph.captions]
    order = np.random.default_rng(options.seed).permutation(len(captioned))[: options.limit]
    taught = taught_by(lambda photograph: finder.find(read_image(photograph.path)), [captioned[at] for at in order])
    write_taught(taught, options.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.segmenter.regions", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-masks and coco-captions")
    parser.add_argument("--weights", type=Path, required=True, help="mobile_sam.pt")
    parser.add_argument("--output", type=Path, required=True, help="file for --taught of training.segmenter")
    parser.add_argument("--limit", type=int, help="of so many photographs only, drawn at random")
    parser.add_argument("--second", type=int, default=40, help="photographs of coco-masks-more kept apart")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
