"""Find the files of a model, wherever its option says they are, and digest them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fastsam_batch.errors import InputError, first_line
from fastsam_batch.outage import explain, is_storage_error
from fastsam_batch.storage import absolute, filesystem, redact, renamed_when_whole

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

FASTSAM_NAMES = ("FastSAM-s", "FastSAM-x")
BUILTIN_FOLDER = Path(str(files("fastsam_batch"))) / "models" / "builtin"
_WEB = ("http://", "https://")
_WEB_VERSION = ("size", "ETag", "Content-MD5", "Digest", "Last-Modified")


@dataclass(frozen=True)
class ModelFiles:
    """A model's local files: `name` is the option that selects it, `main` what to load."""

    name: str
    main: Path
    parts: tuple[Path, ...] = ()

    def sha256(self) -> dict[str, str]:
        """Hexadecimal digests of every file by its name."""
        return {path.name: sha256_of(path) for path in self.parts or (self.main,)}


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_segmenter(name: str) -> ModelFiles:
    """Files of `builtin`, `FastSAM-s`, `FastSAM-x`, a path (of an OpenVINO folder too), or a URI.

    Raises InputError, naming the option and the remedy, where there is no such file.
    """
    if name == "builtin":
        return ModelFiles(name, BUILTIN_FOLDER / "segmenter.safetensors")
    if name in FASTSAM_NAMES:
        return ModelFiles(name, _download_fastsam(name))
    if (folder := Path(name).expanduser()).is_dir():
        return ModelFiles(name, folder, openvino_files(folder))
    path = local_copy(name, "--segmenter")
    return ModelFiles(redact(name), path, (path, *_outside(path)) if path.suffix == ".onnx" else ())


def anywhere(name: str) -> str:
    """The option of `find_segmenter` so that it finds the same in every working folder."""
    return name if name == "builtin" or name in FASTSAM_NAMES else absolute(name)


def openvino_files(folder: Path) -> tuple[Path, Path, Path]:
    """Network, weights and metadata of an OpenVINO folder. Raises InputError where one is missing."""
    networks = sorted(folder.glob("*.xml"))
    if len(networks) == 1:
        files = networks[0], networks[0].with_suffix(".bin"), folder / "metadata.yaml"
        if all(file.is_file() for file in files):
            return files
    raise InputError(f"{folder}: not an OpenVINO folder; it needs one .xml, its .bin and metadata.yaml")


def _outside(path: Path) -> list[Path]:
    """The files beside an ONNX network that hold weights of it. Raises InputError where one is missing."""
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"{path}: needs the extra onnx: pip install 'fastsam-batch[onnx]'") from error
    try:
        tensors = onnx.load(str(path), load_external_data=False).graph.initializer
    except Exception as error:  # protobuf's errors, which are no dependency of ours to name
        raise InputError(f"{path}: not a readable ONNX network ({first_line(error)})") from error
    names = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    found = [path.parent / name for name in sorted(names)]
    for file in found:
        if not file.is_file():
            raise InputError(
                f"{path}: its weights are in {file.name}, which is not beside it; put both into one folder"
            )
    return found


def local_copy(uri: str, option: str) -> Path:
    """A local file for a path or URI; a remote one is copied once a content version to the cache folder.

    Raises InputError where it cannot be read.
    """
    if "://" not in uri:
        path = Path(uri).expanduser()
        if not path.is_file():
            raise InputError(f"{option} {uri}: no such file, and not a name of a model; see --help for the names")
        return path
    told = redact(uri)
    fs, remote = filesystem(uri)
    try:
        if not remote.startswith(_WEB) and fs.info(remote)["type"] == "directory":
            raise InputError(f"{option} {told}: is a folder; name a file in it, or copy the folder and pass its path")
        version = hashlib.sha256(_version(fs, remote).encode()).hexdigest()[:16]
        target = cache_folder() / f"{version}-{os.path.basename(told)}"
        if not target.is_file():
            with renamed_when_whole(str(target)) as file:
                fs.get_file(remote, file.name)
    except Exception as error:
        if not is_storage_error(error):
            raise
        if isinstance(error, FileNotFoundError) and getattr(error.__cause__, "status", 404) == 404:
            raise InputError(f"{option} {told}: no such object") from error
        cause = error.__cause__ if isinstance(error, FileNotFoundError) else None  # fsspec says so of every status
        raise InputError(
            f"{option} {told}: cannot be read ({explain(cause or error)}); mend its address or your access to it, "
            "or download it and pass its path"
        ) from error
    return target


def _version(fs: AbstractFileSystem, remote: str) -> str:
    """What changes with a remote file's content."""
    if not remote.startswith(_WEB):
        return str(fs.ukey(remote))
    info = fs.info(remote)  # fsspec's ukey is of the address alone
    return str([remote, *(info.get(name) for name in _WEB_VERSION)])


def cache_folder() -> Path:
    """Where downloaded weights are kept: $FASTSAM_BATCH_CACHE, or fastsam-batch in the user's cache.

    Raises InputError where it cannot be made.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fastsam-batch"
    folder = Path(os.environ.get("FASTSAM_BATCH_CACHE", default))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{folder}: cannot be made ({reason}); name another folder as FASTSAM_BATCH_CACHE") from error
    return folder


def _download_fastsam(name: str) -> Path:
    target = cache_folder() / f"{name}.pt"
    if target.is_file():
        return target
    from ultralytics.utils.downloads import attempt_download_asset

    try:
        found = Path(attempt_download_asset(str(target)))
    except (OSError, RuntimeError) as error:  # Ultralytics raises ConnectionError and others below OSError
        raise _no_download(name, target) from error
    if not found.is_file():
        raise _no_download(name, target)
    return found


def _no_download(name: str, target: Path) -> InputError:
    return InputError(
        f"--segmenter {name}: its weights could not be downloaded; fetch {name}.pt from the Ultralytics assets "
        f"release on a machine with a network and pass its path, or put it at {target}"
    )
