"""The edges experiment's command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastsam_batch.cli_experiment import (
    load_segmenter,
    output_option,
    refuse_model_options,
    report,
    segmenter_options,
)
from fastsam_batch.cli_options import refuse_unused
from fastsam_batch.ranges import check_range

if TYPE_CHECKING:
    from pathlib import Path

    from fastsam_batch.models.segmenter import Segmenter

Summary = dict[str, Any]


def edges_options(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate edges`."""
    add = parser.add_argument
    add("--edge-maps", metavar="DIR", help="maps to score: .png, .npy or ucm2 .mat, named as the images")
    add("--ground-truth", metavar="DIR", required=True, help="human segmentations, BSDS500's groundTruth .mat files")
    add("--max-distance", type=float, default=0.0075, help="largest distance of a pair, as a share of the diagonal")
    add("--workers", type=int, help="processes; default: this machine's cores")
    segmenter_options(parser, "score the edges of this model's masks: builtin, FastSAM-s, FastSAM-x, or a path or URI")
    add("--images", metavar="DIR", help="the photographs, with --segmenter")
    add("--maps", metavar="DIR", help="keep the model's edge maps here, as .png")
    output_option(parser)


def edges(arguments: dict[str, Any]) -> Summary:
    """Run `evaluate edges`."""
    import tempfile
    from pathlib import Path

    from fastsam_batch.errors import InputError
    from fastsam_batch.evaluate.edge_files import truth_files
    from fastsam_batch.storage import redact

    check_range("--max-distance", arguments["max_distance"], 0, 1)
    check_range("--workers", arguments["workers"], 1)
    if (arguments["edge_maps"] is None) == (arguments["segmenter"] is None):
        raise InputError("there is not one thing to measure; name either --edge-maps or --segmenter")
    truth = Path(arguments["ground_truth"])
    if arguments["edge_maps"]:
        refuse_model_options(arguments)
        refuse_unused(arguments, {"images": None, "maps": None}, "--segmenter")
        maps = Path(arguments["edge_maps"])
        return _score_edges(arguments, maps, truth, maps.resolve().name)
    if arguments["images"] is None:
        raise InputError("--segmenter needs photographs; name their folder with --images")
    from fastsam_batch.evaluate.edge_model import images_of, write_edge_maps

    images = images_of(Path(arguments["images"]), sorted(truth_files(truth)))
    segmenter = load_segmenter(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        maps = Path(arguments["maps"] or temporary)
        write_edge_maps(segmenter, images, maps, _progress_line("edge maps"))
        summary = _score_edges(arguments, maps, truth, redact(arguments["segmenter"]))
    return {"segmenter": redact(arguments["segmenter"]), **_thresholds_of(segmenter), **summary}


def _score_edges(arguments: dict[str, Any], maps: Path, truth: Path, name: str) -> Summary:
    from fastsam_batch.evaluate.edge_files import pair_edge_files, truth_files
    from fastsam_batch.evaluate.edge_report import edge_plot, edge_table
    from fastsam_batch.evaluate.edge_scores import summarise_edges
    from fastsam_batch.evaluate.edges import count_folder

    pairs = pair_edge_files(maps, truth)
    counts = count_folder(
        pairs,
        max_distance=arguments["max_distance"],
        workers=arguments["workers"],
        progress=_progress_line("images scored"),
    )
    summary = summarise_edges(counts) | {"without_map": len(truth_files(truth)) - len(pairs)}
    report(arguments["output"], "edges", summary, name, edge_table, edge_plot)
    return {key: value for key, value in summary.items() if key != "curve"}


def _thresholds_of(segmenter: Segmenter) -> Summary:
    return {
        "imgsz": segmenter.imgsz,
        "conf": segmenter.conf,
        "iou": segmenter.iou,
        "max_masks": segmenter.max_masks,
    }


def _progress_line(what: str) -> Callable[[int, int], None] | None:
    """Images done, on one line that is rewritten; nothing where there is no terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        print(f"\r{done} of {total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show
