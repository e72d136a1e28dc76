"""A segmenter's weights in another runtime's form, by Ultralytics' exporter."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastsam_batch.errors import InputError, first_line
from fastsam_batch.models.exported import OWN_KEY, engine_metadata
from fastsam_batch.models.network import UNSTATED_LICENCE, load_module, own_defaults
from fastsam_batch.models.weights import ModelFiles, find_segmenter

FORMATS = {"onnx": ".onnx", "openvino": "", "engine": ".engine"}
ENGINE_BATCH = 16  # the largest batch a TensorRT engine is built for


def export_segmenter(name: str, form: str, output: Path, *, imgsz: int | None = None, half: bool = False) -> ModelFiles:
    """Write the segmenter that `name` selects to `output`: `onnx` and `engine` a file, `openvino` a folder.

    Inputs of any size and batch go in, up to `imgsz` (default: the weights' own) and 16 images for an engine.
    The weights' defaults, licence and digest travel in the metadata. `half` makes an engine in float16. Raises
    InputError for weights that cannot be exported, a runtime that is not there, or an output that cannot be
    written.
    """
    _check_output(form, output, half)
    files = find_segmenter(name)
    if files.main.suffix not in (".pt", ".safetensors"):
        raise InputError(f"--segmenter {name}: is an export already; export from its .pt or .safetensors")
    _check_runtime(form)
    module, header = load_module(files.main)
    defaults = own_defaults(files.main, header)
    side = imgsz or int(defaults["imgsz"])
    own = {
        **defaults,
        "imgsz": side,  # what it is made for is what it takes where nothing is said
        "licence": header.get("licence", UNSTATED_LICENCE),
        "source": {"name": files.name, "sha256": files.sha256()},
    }
    with _beside(output) as temporary:
        module.pt_path = os.path.join(temporary, "segmenter.pt")  # names the exporter's output
        # Ultralytics runs the network on a batch to trace it: by its default 16 images, though any number goes in.
        settings = {"format": form, "imgsz": side, "dynamic": True, "batch": 1}
        if form != "openvino":
            settings["simplify"] = False  # the runtimes simplify as they load
        if form == "engine":
            settings = {**settings, "batch": ENGINE_BATCH, "device": "0", "half": half}
        made = Path(_run_exporter(name, module, settings))
        _add_metadata(made, form, own)
        with _writing(output):
            if output.is_dir():
                os.rename(output, os.path.join(temporary, "replaced"))
            os.replace(made, output)
    parts = tuple(sorted(output.iterdir())) if output.is_dir() else (output,)
    return ModelFiles(str(output), output, parts)


@contextmanager
def _beside(output: Path) -> Iterator[str]:
    """A folder on the same file system, so that what is made in it takes its place whole."""
    with _writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.")
    with folder:
        yield folder.name


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written ({error.strerror or error})") from error


def _check_output(form: str, output: Path, half: bool) -> None:
    if output.suffix != FORMATS[form]:
        wanted = f"end in {FORMATS[form]}" if FORMATS[form] else "name a folder, without a suffix"
        raise InputError(f"--output {output}: must {wanted} for --format {form}")
    if output.is_dir() and not (output / "metadata.yaml").is_file() and any(output.iterdir()):
        raise InputError(f"--output {output}: is a folder with other files in it; name a new one")
    if half and form != "engine":
        raise InputError(f"--half: is for --format engine; {form} keeps float32, which its runtime may shorten itself")


def _check_runtime(form: str) -> None:
    """Raises InputError, naming what to install, where the runtime of a format is not there."""
    if form != "engine":
        if find_spec(form) is None:
            raise InputError(f"--format {form}: needs the extra {form}: pip install 'fastsam-batch[{form}]'")
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError("--format engine: TensorRT builds on a CUDA device, and this machine has none")
    if find_spec("tensorrt") is None:
        raise InputError("--format engine: needs the package tensorrt; install it beside torch for CUDA")


def _run_exporter(name: str, module: Any, settings: dict[str, Any]) -> str:
    from ultralytics.engine.exporter import Exporter

    module.task = "segment"
    try:
        return str(Exporter(overrides=settings)(model=module))
    except Exception as error:  # the exporters raise what their libraries raise
        reason = first_line(error)
        raise InputError(f"--segmenter {name}: cannot be exported to {settings['format']} ({reason})") from error


def _add_metadata(made: Path, form: str, own: dict[str, Any]) -> None:
    """Put our own facts beside the metadata that Ultralytics wrote."""
    if form == "onnx":
        import onnx

        model = onnx.load(str(made))
        onnx.helper.set_model_props(
            model, {**{prop.key: prop.value for prop in model.metadata_props}, OWN_KEY: json.dumps(own)}
        )
        onnx.save(model, str(made))
    elif form == "openvino":
        from ultralytics.utils import YAML

        about = made / "metadata.yaml"
        YAML.save(about, {**YAML.load(about), OWN_KEY: own})
    else:
        data = made.read_bytes()
        engine = data[4 + int.from_bytes(data[:4], "little") :]
        header = json.dumps({**engine_metadata(made), OWN_KEY: own}).encode()
        made.write_bytes(len(header).to_bytes(4, "little", signed=True) + header + engine)
