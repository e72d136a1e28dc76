"""The temperature of a published CLIP, fitted on the photographs held out, so that its scores are likelihoods.

python -m training.clip.temperature --model FOLDER --data DATA

Trained on few photographs, a network becomes surer of itself than it is right, the more the longer it is trained.

Method: "On calibration of modern neural networks", Guo et al. 2017, section 4.2.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save
from scipy.optimize import minimize_scalar

from fastsam_batch.errors import InputError
from fastsam_batch.models.crops import merge_crops
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.storage import write_result
from training.clip.crops import KINDS
from training.clip.evaluate import embed_things
from training.clip.train import MAX_SCALE
from training.mean import WEIGHTS
from training.photographs import read_data


def fitted_scale(cosines: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """What to multiply cosines [masks, names] by, so that their softmax gives the labels the greatest likelihood."""
    own = cosines[np.arange(len(labels)), labels, None]

    def loss(scale: float) -> float:
        return float(np.log(np.exp(scale * (cosines.astype(np.float64) - own)).sum(1)).mean())

    return float(minimize_scalar(loss, bounds=(1, MAX_SCALE), method="bounded").x)


def fit(model: Path, data: Path) -> float:
    """Put the fitted scale into a published folder, from the mean of both crops of each mask; returns it.

    Raises InputError for a folder or data that cannot be read.
    """
    held_out = read_data(data)
    embedder = Embedder(f"local-dir:{model}")
    vectors, labels = embed_things(embedder, held_out.validation, held_out.coco_names)
    merged = merge_crops(vectors.reshape(-1, vectors.shape[2]), len(KINDS))
    scale = fitted_scale(merged @ embedder.encode_texts(held_out.coco_names).T, labels)
    weights = load_file(model / WEIGHTS)
    with safe_open(model / WEIGHTS, "pt") as file:
        header = file.metadata()
    weights["logit_scale"] = torch.full_like(weights["logit_scale"], math.log(scale))
    write_result(model / WEIGHTS, save(weights, header))
    return scale


def main(arguments: list[str] | None = None) -> int:
    """Fit, and print the scale; exit status 2 with a sentence for what cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m training.clip.temperature", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a published model, changed in place")
    parser.add_argument("--data", type=Path, required=True, help="folder with coco-masks")
    options = parser.parse_args(arguments)
    try:
        print(f"{fit(options.model, options.data):.2f}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
