"""Edge maps and human segmentations as files: .png, .npy and ucm2 .mat; groundTruth .mat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fastsam_batch.errors import InputError

MAP_SUFFIXES = (".png", ".npy", ".mat")
_ROUNDING = 1e-6  # by which a map divided by its largest value may pass 1


@dataclass(frozen=True)
class EdgeFiles:
    """One image: its name without an ending, its edge map and its human segmentations."""

    image: str
    edges: Path
    truth: Path


def pair_edge_files(maps: Path, truths: Path) -> list[EdgeFiles]:
    """The edge maps of a folder with their human segmentations, by name.

    Raises InputError for a folder without maps, a map without a segmentation, and two maps of one name.
    """
    found = sorted(path for path in _files(maps, "--edge-maps") if path.suffix.lower() in MAP_SUFFIXES)
    if not found:
        raise InputError(f"--edge-maps {maps}: holds no {', '.join(MAP_SUFFIXES)} file")
    known = truth_files(truths)
    pairs: dict[str, EdgeFiles] = {}
    for path in found:
        if path.stem in pairs:
            raise InputError(f"--edge-maps {maps}: {pairs[path.stem].edges.name} and {path.name} are maps of one image")
        if path.stem not in known:
            raise InputError(f"--ground-truth {truths}: holds no {path.stem}.mat for the edge map {path.name}")
        pairs[path.stem] = EdgeFiles(path.stem, path, known[path.stem])
    return list(pairs.values())


def truth_files(folder: Path) -> dict[str, Path]:
    """The .mat files of a folder by their names without the ending. Raises InputError where there is none."""
    found = {path.stem: path for path in _files(folder, "--ground-truth") if path.suffix.lower() == ".mat"}
    if not found:
        raise InputError(f"--ground-truth {folder}: holds no .mat file; name the groundTruth folder of BSDS500")
    return found


def read_edge_map(path: Path) -> NDArray[np.float64]:
    """An edge map float64 [h, w] in [0, 1].

    A .png of 8 or 16 bits is divided by its largest value, a .npy holds floats in [0, 1] or such integers;
    of a .mat's `ucm2`, which has twice the resolution, every second row and column from the third on is taken.
    Raises InputError for anything else.
    """
    suffix = path.suffix.lower()
    values: NDArray[Any] | None
    if suffix == ".mat":
        ucm = _load_mat(path).get("ucm2")
        if ucm is None or np.ndim(ucm) != 2:
            raise InputError(f"{path}: holds no ucm2, the contour map of double size; give the map as .png or .npy")
        values = np.asarray(ucm)[2::2, 2::2]
    elif suffix == ".png":
        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if values is None:
            raise InputError(f"{path}: is not a picture that can be read; write the edge map again")
        if values.ndim == 3 and values.shape[2] == 3 and (values == values[..., :1]).all():
            values = values[..., 0]  # a grey map that a program saved in colour
    else:
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: is not a .npy array ({error}); write it with numpy.save") from error
    return _unit_range(values, path)


def read_truth(path: Path) -> list[NDArray[np.bool_]]:
    """The boundaries that each person drew, bool [h, w] each.

    Format: BSDS500 `groundTruth`, a cell array of structs with `Boundaries`. Raises InputError for another.
    """
    cells = _load_mat(path).get("groundTruth")
    try:
        truths = [np.asarray(cell["Boundaries"][0, 0]) > 0 for cell in cells.ravel()]  # type: ignore[union-attr]
    except (AttributeError, IndexError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: holds no groundTruth cells with Boundaries, as BSDS500's files do") from error
    if not truths or any(truth.ndim != 2 or truth.shape != truths[0].shape for truth in truths):
        raise InputError(f"{path}: its Boundaries are not pictures of one size")
    return truths


def _files(folder: Path, option: str) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{option} {folder}: no such folder")
    return [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]


def _load_mat(path: Path) -> dict[str, Any]:
    import zlib

    import scipy.io  # type: ignore[import-untyped]

    broken = (OSError, ValueError, TypeError, NotImplementedError, zlib.error, scipy.io.matlab.MatReadError)
    try:
        content: dict[str, Any] = scipy.io.loadmat(path)
    except broken as error:
        raise InputError(f"{path}: is not a MATLAB file before version 7.3 ({error}); save it with -v7") from error
    return content


def _unit_range(values: NDArray[Any], path: Path) -> NDArray[np.float64]:
    if values.ndim != 2:
        raise InputError(f"{path}: has the shape {values.shape}, but an edge map has height and width only")
    if values.dtype.kind == "u":
        return np.asarray(values / np.iinfo(values.dtype).max, np.float64)
    if values.dtype.kind == "b":
        return values.astype(np.float64)
    if values.dtype.kind != "f" or not ((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all():
        raise InputError(f"{path}: its values must be floats from 0 to 1, or unsigned integers over their whole range")
    return np.clip(values.astype(np.float64), 0, 1)
