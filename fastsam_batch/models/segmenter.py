"""FastSAM in everything mode: a mask for every object and region of an image.

Method: FastSAM (Zhao et al. 2023), first stage, on a YOLOv8-seg with one class. Ultralytics builds the
network; letterbox, batching, NMS and the mask stage are ours, and agree with Ultralytics' own
FastSAMPredictor (retina_masks=True).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from fastsam_batch.masks.boxes import Letterbox, boxes_to_image, letterbox_of
from fastsam_batch.masks.prototypes import EncodedMasks, encode_masks
from fastsam_batch.masks.rle import Rle
from fastsam_batch.masks.runs import rle_of, runs_of
from fastsam_batch.masks.tiles import Box, Found, merge_tiles, tile_boxes
from fastsam_batch.models.device_masks import encode_masks_on_device
from fastsam_batch.models.head import COEFFICIENTS
from fastsam_batch.models.memory import OnDevice
from fastsam_batch.models.network import input_size, load_network
from fastsam_batch.models.precision import segmenter_format, settle_float32

PADDING_GREY = 114
NMS_CANDIDATES = 30_000  # as Ultralytics `utils/nms.py` max_nms
_CUT_MARGIN = 8  # input pixels from a tile's border within which a mask counts as cut: two prototype pixels


@dataclass(frozen=True)
class Segmentation:
    """The n masks of one image by descending score.

    `image_hw` (height, width); `scores` float32 [n]; `bboxes_xywh` float32 [n, 4] tight boxes of the masks; `areas`
    int64 [n]; `stability` float32 [n]; `rles` n masks. All in pixels of the image.
    """

    image_hw: tuple[int, int]
    scores: NDArray[np.float32]
    bboxes_xywh: NDArray[np.float32]
    areas: NDArray[np.int64]
    stability: NDArray[np.float32]
    rles: list[Rle]


@dataclass(frozen=True)
class Prepared:
    """An image ready for the network: `pixels` uint8 RGB [*letterbox.input_hw, 3]."""

    letterbox: Letterbox
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Detections:
    """What the network found in one image, before its masks are made.

    `boxes_xyxy` float32 [n, 4] in image pixels, `scores` float32 [n] descending, `coefficients` float32
    [n, 32], `prototypes` float32 [32, input height / 4, input width / 4], on the segmenter's device.
    """

    image_hw: tuple[int, int]
    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    prototypes: torch.Tensor

    def on_host(self) -> NDArray[np.float32]:
        """The prototypes in this process's memory."""
        return self.prototypes.cpu().numpy()


class Segmenter(OnDevice):
    """A segmentation network with its thresholds, on a device."""

    def __init__(
        self,
        path: Path,
        *,
        imgsz: int | None = None,
        conf: float | None = None,
        iou: float | None = None,
        max_masks: int = 300,
        batch_size: int = 1,
        device: str = "cpu",
        tile: int | None = None,
        overlap: int = 0,
        precision: str = "auto",
        workers: int = 1,
    ) -> None:
        """Load weights from `path`; None takes the weights' own default.

        `imgsz` is the long side of the input in pixels, a multiple of 32. With `tile`, an image with a longer side
        is segmented as a whole and in tiles of so many pixels, neighbours sharing at least `overlap`. `precision` as in
        `segmenter_format`, `workers` as in `load_network`. Raises InputError as these do, and for an `imgsz` that an
        export was not made for.
        """
        self.device = torch.device(device)
        settle_float32(precision, self.device)
        network = load_network(path, self.device, segmenter_format(precision, self.device), workers)
        self.licence = network.licence
        self.imgsz = input_size(path, network, imgsz)
        self.conf = network.defaults["conf"] if conf is None else conf
        self.iou = network.defaults["iou"] if iou is None else iou
        self.max_masks = max_masks
        self.batch_size = min(batch_size, network.max_batch or batch_size)
        self.tile = tile
        self.overlap = overlap
        self.network = network

    def segment(self, images: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        """Masks of each image, uint8 RGB [height, width, 3] of any sizes, in their order."""
        views = [view for image in images for view in self.views(image)]

        def found() -> Iterator[Segmentation]:
            for first in range(0, len(views), self.batch_size):  # prototypes of a batch are held, masks of all
                yield from map(self.masks, self.detect(views[first : first + self.batch_size]))

        return list(self.together(images, found()))

    def views(self, image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """What of an image the network looks at: all of it, then its tiles if it has any. No copies."""
        return [image, *(image[top:bottom, left:right] for left, top, right, bottom in self._tiles(image))]

    def together(
        self,
        images: Iterable[NDArray[np.uint8]],
        found: Iterator[Segmentation],
        timed: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Iterator[Segmentation]:
        """Masks of each image from those of its views in their order: at most `max_masks`, merged as `merge_tiles`.

        `timed` is entered around the merging.
        """
        for image in images:
            whole = next(found)
            boxes = self._tiles(image)
            tiles = list(islice(found, len(boxes)))
            if not tiles:
                yield whole
                continue
            with timed():
                merged = self._merged(whole, list(zip(boxes, tiles, strict=True)))
            yield merged

    def _tiles(self, image: NDArray[np.uint8]) -> list[Box]:
        return tile_boxes(image.shape[:2], self.tile, self.overlap) if self.tile else []

    def _merged(self, whole: Segmentation, tiles: list[tuple[Box, Segmentation]]) -> Segmentation:
        margin = math.ceil(_CUT_MARGIN * max(tiles[0][1].image_hw) / self.imgsz)
        parts = [(box, _as_found(found)) for box, found in tiles]
        merged = merge_tiles(_as_found(whole), parts, whole.image_hw, margin, self.max_masks)
        return Segmentation(
            image_hw=whole.image_hw,
            scores=merged.scores,
            bboxes_xywh=merged.bboxes_xywh,
            areas=merged.areas,
            stability=merged.stability,
            rles=[rle_of(runs, whole.image_hw) for runs in merged.runs],
        )

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """An image as the network takes it."""
        letterbox = letterbox_of(image.shape[:2], self.imgsz, self.network.stride)
        return Prepared(letterbox, letterboxed(image, letterbox))

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Boxes and mask coefficients of each image."""
        return self.detect_prepared([self.prepare(image) for image in images])

    def detect_prepared(self, images: Sequence[Prepared]) -> list[Detections]:
        """As `detect`; images of one letterbox shape share batches."""
        by_shape: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            by_shape.setdefault(image.letterbox.input_hw, []).append(index)
        results: dict[int, Detections] = {}
        for indices in by_shape.values():
            for first in range(0, len(indices), self.batch_size):
                batch = indices[first : first + self.batch_size]
                inputs = np.stack([images[i].pixels for i in batch])
                found = chain.from_iterable(self._in_halves(self._forward, inputs))
                for i, (kept, prototypes) in zip(batch, found, strict=True):
                    letterbox = images[i].letterbox
                    boxes = boxes_to_image(kept[:, :4], letterbox)
                    results[i] = Detections(letterbox.image_hw, boxes, kept[:, 4], kept[:, 5:], prototypes)
        return [results[index] for index in range(len(images))]

    def masks(self, found: Detections) -> Segmentation:
        """The detections' masks as runs; a detection whose mask is empty is left out."""
        masks = self._encode(found)
        return Segmentation(
            image_hw=found.image_hw,
            scores=found.scores[masks.kept],
            bboxes_xywh=masks.bboxes_xywh,
            areas=masks.areas,
            stability=masks.stability,
            rles=[Rle(found.image_hw, counts) for counts in masks.counts],
        )

    def _encode(self, found: Detections) -> EncodedMasks:
        """On the device that holds the prototypes, or here where its memory is too small."""
        of_masks = found.coefficients, found.boxes_xyxy, found.image_hw
        if self.device.type != "cpu":
            masks = self._attempt(lambda: encode_masks_on_device(found.prototypes, *of_masks))
            if masks is not None:
                return masks
        return encode_masks(found.on_host(), *of_masks)

    def _forward(self, inputs: NDArray[np.uint8]) -> list[tuple[NDArray[np.float32], torch.Tensor]]:
        """Kept detections [n, 5 + 32] (box in input pixels, score, coefficients) and prototypes, by image."""
        pixels = torch.from_numpy(inputs).to(self.device).permute(0, 3, 1, 2)
        predictions, prototypes = self.network.forward(pixels.float().div_(255), self.conf)
        return [
            (keep_best(prediction, self.conf, self.iou, self.max_masks).cpu().numpy(), planes.float())
            for prediction, planes in zip(predictions, prototypes, strict=True)
        ]


def keep_best(prediction: torch.Tensor, conf: float, iou: float, max_masks: int) -> torch.Tensor:
    """Confidence threshold and class-agnostic NMS over one image's [4 + classes + 32, anchors].

    float32 [n, 5 + 32] by descending score: box xyxy in input pixels, score, coefficients.
    """
    boxes_cxcywh, classes, coefficients = prediction[:4], prediction[4:-COEFFICIENTS], prediction[-COEFFICIENTS:]
    scores = classes.amax(0)
    candidates = (scores > conf).nonzero().squeeze(1)
    if len(candidates) > NMS_CANDIDATES:
        candidates = candidates[scores[candidates].argsort(descending=True)[:NMS_CANDIDATES]]
    of_boxes = boxes_cxcywh[:, candidates].T.float()
    centre, half = of_boxes[:, :2], of_boxes[:, 2:] / 2
    boxes = torch.cat([centre - half, centre + half], dim=1)
    scores = scores[candidates].float()
    kept = nms(boxes, scores, iou)[:max_masks]
    return torch.cat([boxes[kept], scores[kept, None], coefficients[:, candidates[kept]].T.float()], dim=1)


def _as_found(segmentation: Segmentation) -> Found:
    return Found([runs_of(rle) for rle in segmentation.rles], segmentation.scores, segmentation.stability)


def letterboxed(image: NDArray[np.uint8], letterbox: Letterbox) -> NDArray[np.uint8]:
    """The network's input: the image resized bilinearly and padded with grey, uint8 [*input_hw, 3]."""
    height, width = letterbox.resized_hw
    out = np.full((*letterbox.input_hw, 3), PADDING_GREY, np.uint8)
    resized = image
    if image.shape[:2] != (height, width):
        resized = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    out[letterbox.top : letterbox.top + height, letterbox.left : letterbox.left + width] = resized
    return out
