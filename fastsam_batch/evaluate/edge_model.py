"""Edge maps from a segmenter: the gradients of all mask probability maps, thinned across each edge.

Method: FastSAM (Zhao et al. 2023), section 4.1, after SAM (Kirillov et al. 2023), appendix D.2: a Sobel filter
on every mask's unthresholded probability map, zero away from the mask's outline, the maximum over the masks,
then edge non-maximum suppression (Canny 1986).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fastsam_batch.errors import InputError
from fastsam_batch.images import IMAGE_SUFFIXES, ImageError, decode_image
from fastsam_batch.masks.boxes import content_of, pixel_range
from fastsam_batch.masks.upsampling import PROTOTYPE_STRIDE
from fastsam_batch.models.segmenter import Detections, Segmenter

_MARGIN = 3  # pixels around a box that gradients may reach
_ORIENTATION_BLUR = 1.5


def images_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """The photographs of these names, without their endings, in a folder.

    Raises InputError where one is missing, or two have one name.
    """
    if not folder.is_dir():
        raise InputError(f"--images {folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.stem in names:
            if path.stem in found:
                other = found[path.stem].name
                raise InputError(f"--images {folder}: {other} and {path.name} are both {path.stem}; keep one of them")
            found[path.stem] = path
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"--images {folder}: holds no photograph {missing[0]}, which --ground-truth has a drawing of")
    return [found[name] for name in names]


def write_edge_maps(
    segmenter: Segmenter, images: Sequence[Path], folder: Path, progress: Callable[[int, int], None] | None
) -> None:
    """Put each photograph's edge map into a folder as NAME.png of 16 bits.

    `progress` is called with the images done and their number. Raises InputError for a photograph that cannot be
    read or decoded and a folder that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for done, path in enumerate(images, start=1):
            edges = edge_map(segmenter.detect([_photograph(path)])[0])
            _, png = cv2.imencode(".png", np.rint(edges * np.float32(65535)).astype(np.uint16))
            (folder / f"{path.stem}.png").write_bytes(png.tobytes())
            if progress is not None:
                progress(done, len(images))
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}; name another folder for the edge maps") from error


def _photograph(path: Path) -> NDArray[np.uint8]:
    try:
        return decode_image(path.read_bytes())
    except ImageError as error:
        raise InputError(f"{path}: cannot be decoded ({error}); put the photograph back") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); put the photograph back") from error


def edge_map(found: Detections) -> NDArray[np.float32]:
    """The edges of one image's detections, float32 [h, w] in [0, 1], thin, in pixels of the image."""
    thinned = suppress_beside_edges(outline_gradients(found))
    largest = float(thinned.max(initial=0))
    return thinned / np.float32(largest) if largest > 0 else thinned


def outline_gradients(found: Detections) -> NDArray[np.float32]:
    """The largest gradient of any mask's probability at each pixel, float32 [h, w]; 1 is a full step."""
    height, width = found.image_hw
    strength = np.zeros((height, width), np.float32)
    prototypes = found.on_host()
    down, across = _sampling((prototypes.shape[1], prototypes.shape[2]), found.image_hw)
    square = np.ones((3, 3), np.uint8)
    for box, coefficients in zip(found.boxes_xyxy.tolist(), found.coefficients, strict=True):
        (left, right), (top, bottom) = pixel_range(box[0], box[2], width), pixel_range(box[1], box[3], height)
        if left >= right or top >= bottom:
            continue
        rows = slice(max(top - _MARGIN, 0), min(bottom + _MARGIN, height))
        columns = slice(max(left - _MARGIN, 0), min(right + _MARGIN, width))
        plane = np.tensordot(coefficients, prototypes, 1)
        logits = down[rows] @ plane @ across[columns].T
        probability = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        slope = np.hypot(
            cv2.Sobel(probability, cv2.CV_32F, 1, 0, scale=0.25, borderType=cv2.BORDER_REPLICATE),
            cv2.Sobel(probability, cv2.CV_32F, 0, 1, scale=0.25, borderType=cv2.BORDER_REPLICATE),
        )
        mask = np.zeros(logits.shape, np.uint8)
        inside = slice(top - rows.start, bottom - rows.start), slice(left - columns.start, right - columns.start)
        mask[inside] = logits[inside] > 0
        # The probability goes on beyond the box: where the box cuts the mask there is an outline and no slope.
        outline = cv2.dilate(cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, square), square)
        np.maximum(strength[rows, columns], slope * outline, out=strength[rows, columns])
    return strength


def suppress_beside_edges(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    """Edge strengths float32 [h, w] with zero wherever a neighbour across the edge is stronger.

    The direction across is the one in which the blurred strengths bend most.
    """
    blurred = cv2.GaussianBlur(strength, (0, 0), _ORIENTATION_BLUR, borderType=cv2.BORDER_REPLICATE)
    xx, yy, xy = (cv2.Sobel(blurred, cv2.CV_32F, *order, ksize=5) for order in ((2, 0), (0, 2), (1, 1)))
    # The Hessian's axis of the greater curvature, upwards on an edge's flanks and downwards on its crest.
    across = 0.5 * np.arctan2(2 * xy, xx - yy) + np.float32(np.pi / 2) * (xx + yy < 0)
    y, x = np.mgrid[: strength.shape[0], : strength.shape[1]].astype(np.float32)
    step_x, step_y = np.cos(across), np.sin(across)
    beside = [
        cv2.remap(strength, x + sign * step_x, y + sign * step_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for sign in (-1, 1)
    ]
    return np.where(strength >= np.maximum(*beside), strength, np.float32(0))


def _sampling(proto_hw: tuple[int, int], image_hw: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bilinear weights of prototype rows for each image row, float32 [h, rows], and of columns, [w, columns]."""
    content_hw, *offsets = content_of((PROTOTYPE_STRIDE * proto_hw[0], PROTOTYPE_STRIDE * proto_hw[1]), image_hw)
    weights = []
    for size, length, content, offset in zip(proto_hw, image_hw, content_hw, offsets, strict=True):
        place = ((np.arange(length) + 0.5) * content / length + offset) / PROTOTYPE_STRIDE - 0.5
        weights.append(np.clip(1 - np.abs(np.clip(place, 0, size - 1)[:, None] - np.arange(size)), 0, 1))
    return weights[0].astype(np.float32), weights[1].astype(np.float32)
