"""Models made on the spot: the built-in segmenter as Ultralytics' FastSAM() loads it, and untrained ones of real sizes.

Untrained networks take the time of trained ones; what they would find is replaced by `made_output`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from mask_stage import detections
from safetensors import safe_open
from safetensors.torch import save_file
from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

from fastsam_batch.masks.boxes import letterbox_of
from fastsam_batch.models.weights import BUILTIN_FOLDER

STRIDES = (8, 16, 32)  # of YOLOv8's three levels
CANDIDATES = 8  # a mask's boxes before suppression


def fastsam_checkpoint(path: Path, size: str | None = None) -> Path:
    """A pickled network under `model`, as `FastSAM-s.pt` is, at `path`: the built-in one, or an untrained YOLOv8-seg
    of one class and `size` s or x.
    """
    if size is None:
        with safe_open(BUILTIN_FOLDER / "segmenter.safetensors", framework="pt") as file:
            header = file.metadata()
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    else:
        header, state = {"architecture": f"yolov8{size}-seg.yaml", "classes": "1", "imgsz": "1024"}, None
    architecture = yaml_model_load(header["architecture"])
    architecture["nc"] = int(header["classes"])
    torch.manual_seed(0)
    model = SegmentationModel(architecture, verbose=False)
    if state:
        model.load_state_dict(state)
    model.names = {0: "object"}
    model.args = {"task": "segment", "imgsz": int(header["imgsz"])}
    torch.save({"model": model, "ema": None, "train_args": {"task": "segment", "mode": "train"}}, path)
    return path


def clip_folder(folder: Path) -> Path:
    """An untrained ViT-B-32 as `local-dir:` takes it. Its text tower, which is not timed, has one layer."""
    folder.mkdir()
    config = open_clip.get_model_config("ViT-B-32")
    config["text_cfg"]["layers"] = 1
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    torch.manual_seed(0)
    model = open_clip.CLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


def made_output(image_hw: tuple[int, int], imgsz: int, masks: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a trained network of one class gives for an image with `masks` things in it.

    Predictions float32 [1, 37, anchors], where every thing has CANDIDATES boxes that overlap by more than 0.9, and
    smooth prototypes [1, 32, h / 4, w / 4].
    """
    rng = np.random.default_rng(0)
    letterbox = letterbox_of(image_hw, imgsz)
    prototypes, coefficients, boxes = detections(masks, image_hw, imgsz, 0)
    height, width = letterbox.input_hw
    anchors = sum((height // stride) * (width // stride) for stride in STRIDES)
    gain = letterbox.resized_hw[0] / image_hw[0]
    boxes = boxes * gain + np.float32([letterbox.left, letterbox.top] * 2)
    found = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1).repeat(
        CANDIDATES, 0
    )
    found[:, :2] += found[:, 2:] * rng.uniform(-0.01, 0.01, (len(found), 2))
    scores = np.sort(rng.uniform(0.5, 0.95, len(found)))[::-1]
    places = rng.permutation(anchors)[: len(found)]
    predictions = np.zeros((1, 4 + 1 + coefficients.shape[1], anchors), np.float32)
    predictions[0, :4, places] = found
    predictions[0, 4, places] = scores
    predictions[0, 5:, places] = coefficients.repeat(CANDIDATES, 0)
    return torch.from_numpy(predictions), torch.from_numpy(prototypes[None])
