"""The mean of the weights of published CLIPs that began from one another, which is often better than each.

python -m training.clip.mean --of FOLDER FOLDER … --output FOLDER

Method: "Model soups", Wortsman et al. 2022, the uniform one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from fastsam_batch.errors import InputError
from fastsam_batch.storage import write_result

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"


def mean_of(folders: list[Path], output: Path) -> None:
    """Write the mean of the folders' weights, summed in float32, with the first one's configuration.

    Raises InputError for folders of different forms.
    """
    if len({(folder / CONFIG).read_text(encoding="utf-8") for folder in folders}) > 1:
        raise InputError(
            f"--of {' '.join(map(str, folders))}: their {CONFIG} differ; only models of one form have a mean"
        )
    every = [load_file(folder / WEIGHTS) for folder in folders]
    with safe_open(folders[0] / WEIGHTS, "pt") as file:
        header = file.metadata()
    mean = {name: _mean([weights[name] for weights in every]) for name in every[0]}
    output.mkdir(parents=True, exist_ok=True)
    # Each whole, and after all is read: the output may be one of the folders.
    write_result(output / WEIGHTS, save(mean, header))
    write_result(output / CONFIG, (folders[0] / CONFIG).read_bytes())


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Of whole numbers, such as counts of batches, the first."""
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([tensor.float() for tensor in tensors]).mean(0).to(tensors[0].dtype)


def main(arguments: list[str] | None = None) -> int:
    """Write the folder; exit status 2 with a sentence for folders that have no mean."""
    parser = argparse.ArgumentParser(prog="python -m training.clip.mean", description=__doc__)
    parser.add_argument("--of", type=Path, nargs="+", required=True, help="folders of published models")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        mean_of(options.of, options.output)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
