"""The figures: the 80 COCO names on true masks of held-out photographs, through the embedder itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_batch.models.crops import merge_crops
from fastsam_batch.models.embedder import Embedder
from training.clip.crops import KINDS
from training.photographs import Photograph, read_image

MIN_AREA = 32 * 32
_PERSON = "person"


def evaluate(embedder: Embedder, photographs: list[Photograph], names: list[str]) -> dict[str, Any]:
    """Figures of each crop mode over all masks of at least 32 x 32 pixels; texts are the plain names."""
    vectors, labels = embed_things(embedder, photographs, names)
    texts = embedder.encode_texts(names)
    modes = {kind: vectors[:, index] for index, kind in enumerate(KINDS)}
    modes["both"] = merge_crops(vectors.reshape(-1, vectors.shape[2]), len(KINDS))
    return {
        "photographs": len(photographs),
        "masks": len(labels),
        "names_present": len(np.unique(labels)),
        **{mode: figures(of_mode @ texts.T, labels, names.index(_PERSON)) for mode, of_mode in modes.items()},
    }


def embed_things(
    embedder: Embedder, photographs: list[Photograph], names: list[str]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors float32 [masks, kinds, dim] of large enough masks and their names' places int64 [masks]."""
    vectors: list[NDArray[np.float32]] = []
    labels: list[int] = []
    for photograph in photographs:
        things = [thing for thing in photograph.things if thing.area >= MIN_AREA]
        if not things:
            continue
        boxes = np.array([thing.box_xywh for thing in things], np.float32)
        source = embedder.crop_source(read_image(photograph.path))
        crops = embedder.crops_of(source, [thing.rle for thing in things], boxes, "both")
        vectors.append(embedder.embed_crops([crop for pair in crops for crop in pair]))
        labels.extend(names.index(thing.name) for thing in things)
    return np.concatenate(vectors).reshape(len(labels), len(KINDS), -1), np.array(labels)


def figures(scores: NDArray[np.float32], labels: NDArray[np.int64], person: int) -> dict[str, float]:
    """top1, top5, nonperson_top1 and mean average precision of scores [masks, names].

    The mean is over the names that some mask has; ties keep the masks' order.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")
    right = ranked[:, 0] == labels
    precisions = [_average_precision(scores[:, name], labels == name) for name in np.unique(labels)]
    return {
        "top1": float(right.mean()),
        "top5": float((ranked[:, :5] == labels[:, None]).any(1).mean()),
        "nonperson_top1": float(right[labels != person].mean()),
        "map": float(np.mean(precisions)),
    }


def _average_precision(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    hits = positive[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
