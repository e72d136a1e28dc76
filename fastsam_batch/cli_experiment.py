"""What the experiments' commands share: a segmenter by its options, and the report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastsam_batch.cli_options import refuse_unused
from fastsam_batch.evaluate.report import write_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastsam_batch.models.segmenter import Segmenter


_DEFAULTS: dict[str, Any] = {"imgsz": None, "conf": None, "iou": None, "max_masks": 300, "device": "auto"}


def segmenter_options(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Options that name and set a segmenter."""
    parser.add_argument("--segmenter", help=help_text)
    add = parser.add_argument_group("the model (with --segmenter; default: the weights' own)").add_argument
    add("--imgsz", type=int, help="long side of the network's input")
    add("--conf", type=float, help="confidence threshold")
    add("--iou", type=float, help="NMS threshold")
    add("--max-masks", type=int, help="masks an image at most")
    add("--device", choices=("auto", "cpu", "cuda"), help="where the model runs")
    parser.set_defaults(**_DEFAULTS)


def refuse_model_options(arguments: dict[str, Any]) -> None:
    """Raise InputError where the model of `segmenter_options` is set and there is none."""
    refuse_unused(arguments, _DEFAULTS, "--segmenter")


def load_segmenter(arguments: dict[str, Any]) -> Segmenter:
    """The segmenter of `segmenter_options`. Raises InputError for a wrong option, naming it."""
    from fastsam_batch.config import segment_options
    from fastsam_batch.models.pair import load_models

    given = {key: arguments[key] for key in (*_DEFAULTS, "segmenter")}
    options = segment_options({"input": "-", "output": "-", **given})
    import torch

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = {"path": options.segmenter, **{key: given[key] for key in ("imgsz", "conf", "iou", "max_masks")}}
    segmenter, _ = load_models(model, None, device, None)
    assert segmenter is not None
    return segmenter


def output_option(parser: argparse.ArgumentParser) -> None:
    """The option that names where a report goes."""
    parser.add_argument("--output", metavar="DIR", help="folder or URI for a table (.md), a plot (.png) and a .json")


def report(
    output: str | None,
    experiment: str,
    summary: dict[str, Any],
    name: str,
    table: Callable[[dict[str, Any], str], str],
    plot: Callable[[dict[str, Any], str], Figure],
) -> None:
    """Print a summary's table under `name`, and write it, the summary and its plot where `output` says, if it does."""
    from fastsam_batch.storage import redact

    text = table(summary, name)
    print(text)
    if output:
        for uri in write_report(output, experiment, summary, text, plot(summary, name)):
            print(f"written  {redact(uri)}")
