"""CLIP: crops of masks and texts into one space. Any open_clip architecture, from any place it loads from."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from fastsam_batch.errors import InputError, first_line
from fastsam_batch.masks.coverage import box_coverage
from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.crops import CROP_KINDS, image_pyramid, mask_crop
from fastsam_batch.models.dense import DenseTower, dense_tower
from fastsam_batch.models.device_crops import ImageSums, mask_crops
from fastsam_batch.models.embedder_files import find_embedder, licence_of
from fastsam_batch.models.fold import fold_batch_norms
from fastsam_batch.models.memory import OnDevice
from fastsam_batch.models.precision import embedder_format, settle_float32

POOL_SCALE = 3  # the long side of an image that is pooled, over the side of a crop
POOL_CELLS = 2.0  # a mask of fewer cells' area is embedded by its crops instead
_TEXTS_AT_ONCE = 256

Crop: TypeAlias = NDArray[np.uint8] | torch.Tensor
CropSource: TypeAlias = list[NDArray[np.uint8]] | ImageSums


class Embedder(OnDevice):
    """An open_clip model on a device: image crops and texts to L2-normalised float32 vectors."""

    def __init__(
        self, name: str, *, batch_size: int = 64, device: str = "cpu", mode: str = "crop", precision: str = "auto"
    ) -> None:
        """Load the embedder that `name` selects (see `find_embedder`); raises InputError.

        `mode` is `crop`, or `pool` for one whose image tower can pool masks as well (see `pool_masks`). `precision`
        is its image tower's, as in `embedder_format`; texts are encoded in float32.
        """
        import open_clip

        self.files, model_name = find_embedder(name)
        self.name = self.files.name
        self.batch_size = batch_size
        self.device = torch.device(device)
        pretrained = None if model_name.startswith("local-dir:") else str(self.files.main)
        # What a tag says beside its address, which open_clip does not ask of a file: SigLIP's and MobileCLIP's pixels,
        # OpenAI's activation. Nothing for other names.
        of_tag = open_clip.get_pretrained_cfg(model_name, name.partition(":")[2])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # open_clip warns of quick_gelu for plain weight files
                model = open_clip.create_model(
                    model_name,
                    pretrained,
                    force_quick_gelu=of_tag.get("quick_gelu", False),
                    force_preprocess_cfg=of_tag,
                    pretrained_text=False,
                    weights_only=True,
                    require_pretrained=True,
                )
            # Of a hub's model open_clip finds the tokenizer there; in a folder it would look for files of its own.
            self._tokenizer = open_clip.get_tokenizer(name if name.startswith("hf-hub:") else model_name)
        except Exception as error:  # open_clip and what it builds on raise whatever their parts do
            raise InputError(f"--embedder {self.name}: cannot be loaded ({_reason(error)})") from error
        self._model = model.to(self.device).eval().requires_grad_(False)
        fold_batch_norms(self._model.visual)
        self._dtype = embedder_format(precision, self.device)
        settle_float32(precision, self.device)
        # Laid out as images come: no transposing in each layer.
        self._model.visual.to(self._dtype, memory_format=torch.channels_last)
        if self.device.type == "cpu" and self._dtype == torch.bfloat16:
            for module in self._model.visual.modules():
                if isinstance(module, torch.nn.ReLU):
                    module.inplace = False  # in place, torch's of bfloat16 takes two to three times as long
        preprocess: dict[str, Any] = open_clip.get_model_preprocess_cfg(model)
        size = preprocess["size"]
        height, width = (size, size) if isinstance(size, int) else size
        if height != width:
            raise InputError(f"--embedder {self.name}: takes {width} x {height} pixels; name one that takes a square")
        self.image_size: int = height
        self._mean = torch.tensor(preprocess["mean"], device=self.device)
        self._std = torch.tensor(preprocess["std"], device=self.device)
        self.fill_rgb = np.round(np.array(preprocess["mean"]) * 255).astype(np.uint8)
        self.dim = int(self.encode_texts(["a"]).shape[1])
        # What cosines were multiplied with before the softmax of training.
        self.temperature = float(model.logit_scale.float().exp())
        self.licence = licence_of(self.files)
        self._dense = dense_tower(self.name, self._model.visual) if mode == "pool" else None

    def embed_crops(self, crops: Sequence[Crop] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings float32 [n, dim], unit length, of n crops uint8 RGB [image_size, image_size, 3]."""
        batches = (crops[first : first + self.batch_size] for first in range(0, len(crops), self.batch_size))
        parts = [part for batch in batches for part in self._in_halves(self._forward, batch)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def _forward(self, crops: Sequence[Crop] | NDArray[np.uint8]) -> NDArray[np.float32]:
        return _unit(self._model.encode_image(self._pixels(_stacked(crops))))

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised input [n, 3, h, w] of images uint8 RGB [n, h, w, 3]."""
        width = images.shape[2]
        rows = images.to(self.device).float().div_(255).flatten(2)  # by channel, torch takes twice as long
        rows = rows.sub_(self._mean.repeat(width)).div_(self._std.repeat(width))
        return rows.to(self._dtype).view(images.shape).permute(0, 3, 1, 2)

    def pool_masks(
        self,
        image: NDArray[np.uint8],
        rles: Sequence[Rle],
        areas: NDArray[np.int64],
        per_mask: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Embeddings of masks from one forward pass over their image: the mean over the places each mask covers.

        Returns vectors float32 [n, dim], unit length, and bool [n], False (and 0) for masks too small for the
        image's grid of places, which are for `embed_crops`: for all of them where that has fewer pixels to look
        at, with `per_mask` crops a mask. Needs the mode `pool`.
        """
        if self._dense is None:
            raise ValueError("an Embedder of mode 'crop' cannot pool")
        (height, width), stride = image.shape[:2], self._dense.stride
        scale = POOL_SCALE * self.image_size / max(height, width)
        rows, columns = (max(round(side * scale / stride), 1) for side in (height, width))
        pooled = areas * (rows * columns / (height * width)) >= POOL_CELLS
        vectors = np.zeros((len(rles), self.dim), np.float32)
        if int(pooled.sum()) * per_mask * self.image_size**2 <= rows * columns * stride**2:
            return vectors, np.zeros(len(rles), np.bool_)
        chosen = (rles[index] for index in np.flatnonzero(pooled).tolist())
        covered = np.stack([box_coverage(rle, (0, 0, width, height), (rows, columns)).reshape(-1) for rle in chosen])
        shares = covered / covered.sum(1, keepdims=True)
        size = columns * stride, rows * stride
        method = cv2.INTER_AREA if size[0] < width else cv2.INTER_CUBIC
        pixels = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
        pool = partial(self._pooled, self._dense, pixels, shares)
        found = self._attempt(pool)
        vectors[pooled] = self._attempt(pool, last_try=True) if found is None else found
        return vectors, pooled

    def _pooled(self, dense: DenseTower, pixels: NDArray[np.uint8], shares: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vectors of shares of an image's places."""
        places = dense.places(self._pixels(torch.from_numpy(pixels[None]))).float()
        return _unit(torch.from_numpy(shares).to(self.device) @ places)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings float32 [n, dim], unit length, of texts as they are (no templates)."""
        parts = [list(texts[first : first + _TEXTS_AT_ONCE]) for first in range(0, max(len(texts), 1), _TEXTS_AT_ONCE)]
        with torch.inference_mode():
            tokens = (self._tokenizer(part).to(self.device) for part in parts)
            return np.concatenate([_unit(self._model.encode_text(of_part)) for of_part in tokens])

    def crop_source(self, image: NDArray[np.uint8]) -> CropSource:
        """What `crops_of` crops from, of an image uint8 RGB [height, width, 3]: made where the model is."""
        sums = self._attempt(lambda: ImageSums.of(image, self.device)) if self.device.type != "cpu" else None
        return image_pyramid(image, self.image_size) if sums is None else sums

    def crops_of(
        self, source: CropSource, rles: Sequence[Rle], bboxes_xywh: NDArray[np.float32], mode: str
    ) -> Iterator[list[Crop]]:
        """Crops of each mask of one image: k of uint8 [image_size, image_size, 3], where `source` is, or here where the
        device has no memory left for them.

        `source` is the image's. k is 1 for mode `masked` or `context`, 2 for `both`, whose embeddings `merge_crops`
        averages.
        """
        kinds, size, fill = CROP_KINDS[mode], self.image_size, self.fill_rgb
        if isinstance(source, ImageSums):
            of_kinds = self._attempt(partial(mask_crops, source, rles, bboxes_xywh, size, fill, kinds))
            if of_kinds is not None:
                yield from (list(crops) for crops in zip(*of_kinds, strict=True))
                return
            source = image_pyramid(source.pixels.cpu().numpy(), size)
        for rle, box in zip(rles, bboxes_xywh, strict=True):
            yield [mask_crop(source, rle, box, size, fill, kind) for kind in kinds]


def _stacked(crops: Sequence[Crop] | NDArray[np.uint8]) -> torch.Tensor:
    """Crops uint8 [n, size, size, 3], on the device where one of them is."""
    if isinstance(crops, np.ndarray):
        return torch.from_numpy(crops)
    on_device = next((crop.device for crop in crops if isinstance(crop, torch.Tensor)), None)
    if on_device is None:
        return torch.from_numpy(np.stack(crops))
    return torch.stack([torch.as_tensor(crop, device=on_device) for crop in crops])


def _reason(error: Exception) -> str:
    """Why a model cannot be loaded, and what to do where that is known."""
    if isinstance(error, ImportError):
        return f"it needs the package {error.name}; install that"
    if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
        return "its file holds more than tensors, which is not run; save its state dict as safetensors if you trust it"
    said = first_line(error)
    plain = isinstance(error, (OSError, RuntimeError, ValueError, SafetensorError))
    return said if plain or said == type(error).__name__ else f"{type(error).__name__}: {said}"


def _unit(features: torch.Tensor) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return vectors
