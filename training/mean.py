"""The mean of the weights of published models that began from one another, which is often better than each.

python -m training.mean --of FOLDER FOLDER … --output FOLDER    # CLIPs
python -m training.mean --of FILE FILE … --output FILE          # segmenters

Method: "Model soups", Wortsman et al. 2022, the uniform one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from fastsam_batch.errors import InputError
from fastsam_batch.storage import write_result

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"


def mean_of_clips(folders: list[Path], output: Path) -> None:
    """Write the mean of the folders' weights with the first one's configuration.

    Raises InputError for folders of different forms.
    """
    if len({(folder / CONFIG).read_text(encoding="utf-8") for folder in folders}) > 1:
        raise InputError(
            f"--of {' '.join(map(str, folders))}: their {CONFIG} differ; only models of one form have a mean"
        )
    config = (folders[0] / CONFIG).read_bytes()
    output.mkdir(parents=True, exist_ok=True)
    mean_of_files([folder / WEIGHTS for folder in folders], output / WEIGHTS)
    write_result(output / CONFIG, config)


def mean_of_files(paths: list[Path], output: Path) -> None:
    """Write the mean of the files' weights, summed in float32, with the first one's header; `output`, which may be
    one of them, is always whole.

    Raises InputError for files of different forms.
    """
    every = [load_file(path) for path in paths]
    forms = [{name: (tensor.shape, tensor.dtype) for name, tensor in weights.items()} for weights in every]
    if any(form != forms[0] for form in forms[1:]):
        raise InputError(
            f"--of {' '.join(map(str, paths))}: their weights' names or shapes differ; only models of one form have "
            "a mean"
        )
    with safe_open(paths[0], "pt") as file:
        header = file.metadata()
    mean = {name: _mean([weights[name] for weights in every]) for name in every[0]}
    write_result(output, save(mean, header))


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Of whole numbers, such as counts of batches, the first."""
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([tensor.float() for tensor in tensors]).mean(0).to(tensors[0].dtype)


def main(arguments: list[str] | None = None) -> int:
    """Write the mean; exit status 2 with a sentence for models that have none."""
    parser = argparse.ArgumentParser(prog="python -m training.mean", description=__doc__)
    parser.add_argument("--of", type=Path, nargs="+", required=True, help="folders of CLIPs or files of segmenters")
    parser.add_argument("--output", type=Path, required=True, help="folder or file, as those are")
    options = parser.parse_args(arguments)
    mean = mean_of_files if options.of[0].is_file() else mean_of_clips
    try:
        mean(options.of, options.output)
    except (InputError, OSError, SafetensorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
