"""Find the files of an embedder, wherever its option says they are."""

from __future__ import annotations

import json
from pathlib import Path

from fastsam_batch.errors import InputError, first_line
from fastsam_batch.models.network import UNSTATED_LICENCE
from fastsam_batch.models.weights import BUILTIN_FOLDER, ModelFiles, local_copy
from fastsam_batch.storage import absolute, redact

_CONFIG = "open_clip_config.json"
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


def find_embedder(name: str) -> tuple[ModelFiles, str]:
    """Files of an embedder and the open_clip model name that loads them.

    `builtin`; `local-dir:FOLDER` or a folder with open_clip_config.json and weights; `hf-hub:ORG/REPO`;
    `ARCH:TAG` with a pretrained tag; `ARCH:FILE` with a path or URI of weights. Raises InputError, naming
    the option and the remedy.
    """
    if name == "builtin":
        return _folder(name, BUILTIN_FOLDER / "clip")
    if name.startswith("hf-hub:"):
        return _folder(name, _download_hub(name))
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if name.startswith("local-dir:") or folder.is_dir():
        return _folder(name, folder)
    architecture, colon, tag = name.partition(":")
    import open_clip

    if not colon or architecture not in open_clip.list_models():
        raise InputError(
            f"--embedder {_told(name)}: not builtin, none, a folder with {_CONFIG}, hf-hub:ORG/REPO, or ARCH:TAG with "
            "an architecture of open_clip.list_models()"
        )
    pretrained = open_clip.get_pretrained_cfg(architecture, tag)
    if pretrained:
        try:
            weights = Path(open_clip.download_pretrained(pretrained))
        except (OSError, RuntimeError, ValueError) as error:
            raise _no_download(name, error) from error
    elif "://" in tag or Path(tag).expanduser().is_file():
        weights = local_copy(tag, f"--embedder {architecture}:")
    else:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise InputError(f"--embedder {name}: no such file, and no tag of {architecture}, whose tags are: {tags}")
    return ModelFiles(_told(name), weights), architecture


def embedder_anywhere(name: str) -> str:
    """The option of `find_embedder` so that it finds the same in every working folder."""
    if name == "builtin" or name.startswith("hf-hub:"):
        return name
    if name.startswith("local-dir:") or Path(name).expanduser().is_dir():
        return f"local-dir:{absolute(name.removeprefix('local-dir:'))}"
    architecture, colon, tag = name.partition(":")
    import open_clip

    of_tag = not colon or open_clip.get_pretrained_cfg(architecture, tag)
    return name if of_tag or not Path(tag).expanduser().is_file() else f"{architecture}:{absolute(tag)}"


def _told(name: str) -> str:
    """An embedder's name without the secrets of an address in it."""
    architecture, colon, tag = name.partition(":")
    return f"{architecture}{colon}{redact(tag)}" if "://" in tag else redact(name)


def _folder(name: str, folder: Path) -> tuple[ModelFiles, str]:
    weights = [folder / file for file in _WEIGHTS if (folder / file).is_file()]
    if not (folder / _CONFIG).is_file() or not weights:
        raise InputError(f"--embedder {name}: {folder} holds no {_CONFIG} with {_WEIGHTS[0]}")
    return ModelFiles(name, weights[0], (folder / _CONFIG, weights[0])), f"local-dir:{folder}"


def _download_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository = name.removeprefix("hf-hub:")
    try:
        folder = Path(hf_hub_download(repository, _CONFIG)).parent
        for file in _WEIGHTS:
            try:
                hf_hub_download(repository, file)
                return folder
            except HfHubHTTPError:  # the repository has its weights under another of the names
                continue
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, ValueError, RuntimeError) as error:
        raise _no_download(name, error) from error
    raise InputError(f"--embedder {name}: the repository has none of {', '.join(_WEIGHTS)}")


def _no_download(name: str, error: Exception) -> InputError:
    return InputError(
        f"--embedder {name}: its weights could not be downloaded ({first_line(error)}); download them on a machine "
        "with a network and pass a folder with them, or use --embedder builtin"
    )


def licence_of(files: ModelFiles) -> str:
    """What an embedder's configuration says of its licence."""
    for path in files.parts:
        if path.name == _CONFIG:
            licence = json.loads(path.read_text(encoding="utf-8")).get("licence")
            return str(licence) if licence else UNSTATED_LICENCE
    return UNSTATED_LICENCE
