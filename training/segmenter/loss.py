"""The loss of a YOLOv8-seg with one class, on soft masks that may nest, with negatives that count by scene.

Method: Ultralytics' v8 loss (task-aligned assignment, CIoU and distribution focal loss, binary cross-entropy),
its assigner and box loss taken as they are; the masks' cross-entropy is joined by a dice loss (Milletari 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional
from ultralytics.utils.loss import BboxLoss
from ultralytics.utils.tal import TaskAlignedAssigner, dist2bbox, make_anchors

WEIGHTS = {"box": 7.5, "cls": 0.5, "dfl": 1.5, "mask": 7.5, "foretold": 5.0}
DICE = 0.5  # beside the cross-entropy
MAX_MASKS = 400  # positive anchors of a batch whose masks are compared


@dataclass(frozen=True)
class Batch:
    """`images` float32 [b, 3, s, s] in 0 to 1; per instance `of_image` int64 [n], `boxes` float32 [n, 4] (xyxy,
    pixels), `shares` uint8 [n, s / 4, s / 4] (255 where it covers all); `negatives` float32 [b]."""

    images: torch.Tensor
    of_image: torch.Tensor
    boxes: torch.Tensor
    shares: torch.Tensor
    negatives: torch.Tensor


class Loss:
    """Called with the network's raw outputs and a Batch, it gives each part of the loss by name, unweighted."""

    def __init__(self, model: torch.nn.Module) -> None:
        head = model.model[-1]  # type: ignore[index,union-attr]
        self.stride, self.bins = head.stride, int(head.reg_max)
        self.assigner = TaskAlignedAssigner(
            topk=10, num_classes=1, alpha=0.5, beta=6.0, stride=[int(value) for value in head.stride]
        )
        self.of_boxes = BboxLoss(self.bins)

    def __call__(
        self, outputs: dict[str, torch.Tensor], batch: Batch, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        distances = outputs["boxes"].permute(0, 2, 1).contiguous().float()
        logits = outputs["scores"].permute(0, 2, 1).contiguous().float()
        count, anchors = logits.shape[:2]
        points, strides = make_anchors(outputs["feats"], self.stride, 0.5)
        side = torch.tensor(batch.images.shape[2:], device=logits.device, dtype=torch.float32)
        of_bins = torch.arange(self.bins, device=logits.device, dtype=torch.float32)
        expected = distances.view(count, anchors, 4, self.bins).softmax(3) @ of_bins
        boxes = dist2bbox(expected, points, xywh=False)
        padded, places = _padded(batch, count)
        _, aims, scores, positive, chosen = self.assigner(
            logits.detach().sigmoid(),
            boxes.detach() * strides,
            points * strides,
            torch.zeros_like(padded[:, :, :1]),
            padded,
            padded.sum(2, keepdim=True) > 0,
        )
        total = scores.sum().clamp(min=1)
        weight = torch.where(positive, 1.0, batch.negatives[:, None])[:, :, None]
        cls = (functional.binary_cross_entropy_with_logits(logits, scores, reduction="none") * weight).sum() / total
        box, dfl = self.of_boxes(distances, boxes, points, aims / strides, scores, total, positive, side, strides)
        of_masks = self._masks(outputs, batch, positive, chosen, places, aims, generator)
        return {"box": box, "cls": cls, "dfl": dfl, "mask": of_masks}

    def _masks(
        self,
        outputs: dict[str, torch.Tensor],
        batch: Batch,
        positive: torch.Tensor,
        chosen: torch.Tensor,
        places: torch.Tensor,
        aims: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Mean over some positive anchors of how their masks differ from the targets' inside the targets' boxes."""
        planes = outputs["proto"].float()
        where = positive.nonzero()
        if not len(where):
            return planes.sum() * 0
        if len(where) > MAX_MASKS:
            where = where[torch.randperm(len(where), generator=generator)[:MAX_MASKS].to(where.device)]
        coefficients = outputs["mask_coefficient"].permute(0, 2, 1).float()
        height, width = planes.shape[2:]
        rows = torch.arange(height, device=planes.device)[None, :, None] + 0.5
        columns = torch.arange(width, device=planes.device)[None, None, :] + 0.5
        sums = []
        for image in range(len(planes)):
            anchors = where[where[:, 0] == image, 1]
            if not len(anchors):
                continue
            predicted = (coefficients[image, anchors] @ planes[image].flatten(1)).view(-1, height, width)
            aim = batch.shares[places[image, chosen[image, anchors]]].float() / 255
            left, top, right, bottom = (aims[image, anchors] / 4).T[:, :, None, None]
            # Half a cell wider than the box: one that is thinner than a cell has cells too.
            inside = (columns > left - 0.5) & (columns < right + 0.5) & (rows > top - 0.5) & (rows < bottom + 0.5)
            weight = inside.float()
            entropy = functional.binary_cross_entropy_with_logits(predicted, aim, reduction="none")
            entropy = (entropy * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
            share = predicted.sigmoid() * weight
            common = (share * aim).sum((1, 2))
            dice = 1 - (2 * common + 1) / (share.square().sum((1, 2)) + (aim * weight).square().sum((1, 2)) + 1)
            sums.append((entropy + DICE * dice).sum())
        return torch.stack(sums).sum() / len(where)


def _padded(batch: Batch, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes float32 [b, most, 4], zeros behind an image's last, and each one's place in the batch int64 [b, most]."""
    by_image = [(batch.of_image == image).nonzero().squeeze(1) for image in range(count)]
    most = max(1, *(len(places) for places in by_image))
    boxes = torch.zeros(count, most, 4, device=batch.boxes.device)
    places = torch.zeros(count, most, dtype=torch.int64, device=batch.boxes.device)
    for image, of_image in enumerate(by_image):
        boxes[image, : len(of_image)] = batch.boxes[of_image]
        places[image, : len(of_image)] = of_image
    return boxes, places
