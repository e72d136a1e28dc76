"""The evaluate command: the experiments of the method's paper, each a subcommand."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fastsam_batch.evaluate.report import write_report

if TYPE_CHECKING:
    from pathlib import Path

    from fastsam_batch.export.images import ExportImage
    from fastsam_batch.models.segmenter import Segmenter

Summary = dict[str, Any]


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch evaluate`."""
    experiments = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    for name, (help_text, add_options, _) in _EXPERIMENTS.items():
        add_options(
            experiments.add_parser(name, help=help_text, description=help_text, formatter_class=parser.formatter_class)
        )


def evaluate(arguments: dict[str, Any]) -> tuple[Summary, int]:
    """Run `fastsam-batch evaluate`: its summary, and the exit code."""
    began = time.perf_counter()
    summary = _EXPERIMENTS[arguments["experiment"]][2](arguments)
    return {**summary, "seconds": round(time.perf_counter() - began, 3)}, 0


def _edges_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--edge-maps", metavar="DIR", help="maps to score: .png, .npy or ucm2 .mat, named as the images")
    add("--ground-truth", metavar="DIR", required=True, help="human segmentations, BSDS500's groundTruth .mat files")
    add("--max-distance", type=float, default=0.0075, help="largest distance of a pair, as a share of the diagonal")
    add("--workers", type=int, help="processes; default: this machine's cores")
    _segmenter_options(parser, "score the edges of this model's masks: builtin, FastSAM-s, FastSAM-x, or a path or URI")
    add("--images", metavar="DIR", help="the photographs, with --segmenter")
    add("--maps", metavar="DIR", help="keep the model's edge maps here, as .png")
    _output_option(parser)


def _edges(arguments: dict[str, Any]) -> Summary:
    import tempfile
    from pathlib import Path

    from fastsam_batch.errors import InputError
    from fastsam_batch.evaluate.edge_files import truth_files
    from fastsam_batch.storage import redact

    if (arguments["edge_maps"] is None) == (arguments["segmenter"] is None):
        raise InputError("there is not one thing to measure; name either --edge-maps or --segmenter")
    truth = Path(arguments["ground_truth"])
    if arguments["edge_maps"]:
        maps = Path(arguments["edge_maps"])
        return _score_edges(arguments, maps, truth, maps.resolve().name)
    if arguments["images"] is None:
        raise InputError("--segmenter needs photographs; name their folder with --images")
    from fastsam_batch.evaluate.edge_model import images_of, write_edge_maps

    images = images_of(Path(arguments["images"]), sorted(truth_files(truth)))
    segmenter = _load_segmenter(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        maps = Path(arguments["maps"] or temporary)
        write_edge_maps(segmenter, images, maps, _progress_line("edge maps"))
        summary = _score_edges(arguments, maps, truth, redact(arguments["segmenter"]))
    return {"segmenter": redact(arguments["segmenter"]), **_thresholds_of(segmenter), **summary}


def _score_edges(arguments: dict[str, Any], maps: Path, truth: Path, name: str) -> Summary:
    from fastsam_batch.evaluate.edge_files import pair_edge_files
    from fastsam_batch.evaluate.edge_report import edge_plot, edge_table
    from fastsam_batch.evaluate.edge_scores import summarise_edges
    from fastsam_batch.evaluate.edges import count_folder

    counts = count_folder(
        pair_edge_files(maps, truth),
        max_distance=arguments["max_distance"],
        workers=arguments["workers"],
        progress=_progress_line("images scored"),
    )
    summary = summarise_edges(counts)
    table = edge_table(summary, name)
    print(table)
    if arguments["output"]:
        _say_written(write_report(arguments["output"], "edges", summary, table, edge_plot(summary, name)))
    return {key: value for key, value in summary.items() if key != "curve"}


def _segmenter_options(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("--segmenter", help=help_text)
    add = parser.add_argument_group("the model (with --segmenter; default: the weights' own)").add_argument
    add("--imgsz", type=int, help="long side of the network's input")
    add("--conf", type=float, help="confidence threshold")
    add("--iou", type=float, help="NMS threshold")
    add("--max-masks", type=int, default=300, help="masks an image at most")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the model runs")


def _load_segmenter(arguments: dict[str, Any]) -> Segmenter:
    from fastsam_batch.config import segment_options
    from fastsam_batch.models.pair import load_models

    given = {key: arguments[key] for key in ("imgsz", "conf", "iou", "max_masks", "device", "segmenter")}
    options = segment_options({"input": "-", "output": "-", **given})
    import torch

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = {"path": options.segmenter, **{key: given[key] for key in ("imgsz", "conf", "iou", "max_masks")}}
    return load_models(model, None, device, None)[0]


def _thresholds_of(segmenter: Segmenter) -> Summary:
    return {
        "imgsz": segmenter.imgsz,
        "conf": segmenter.conf,
        "iou": segmenter.iou,
        "max_masks": segmenter.max_masks,
    }


def _proposals_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--corpus", metavar="URI", help="what segment_corpus made: its masks are the proposals")
    add("--results", metavar="FILE", help="proposals of any program, as COCO results")
    add("--ground-truth", metavar="FILE", required=True, help="instances.json of COCO or LVIS; classes are ignored")
    add(
        "--rank-by",
        nargs="+",
        choices=("score", "stability", "product"),
        default=["score"],
        help="what puts a corpus's masks in order; several are compared",
    )
    add("--max-det", type=int, default=1000, help="proposals an image at most")
    _output_option(parser)


def _proposals(arguments: dict[str, Any]) -> Summary:
    from fastsam_batch.errors import InputError
    from fastsam_batch.evaluate.coco_files import read_results, read_truth_images
    from fastsam_batch.evaluate.proposal_report import proposal_plot, proposal_table
    from fastsam_batch.evaluate.proposals import pair_corpus, pair_results, proposal_figures
    from fastsam_batch.storage import redact

    rankings = list(dict.fromkeys(arguments["rank_by"]))
    if (arguments["corpus"] is None) == (arguments["results"] is None):
        raise InputError("there is not one thing to measure; name either --corpus or --results")
    if arguments["results"] and rankings != ["score"]:
        raise InputError(f"--rank-by {' '.join(rankings)}: results are ranked by their score only; leave it out")
    if arguments["max_det"] < 1:
        raise InputError(f"--max-det {arguments['max_det']}: take at least 1 proposal an image")
    truths = read_truth_images(arguments["ground_truth"])
    kinds = ["mask", "box"]
    if arguments["corpus"]:
        pairs = pair_corpus(truths, _corpus_images(arguments["corpus"]), rankings)
    else:
        results = read_results(arguments["results"])
        pairs = pair_results(truths, results)
        if not all("segmentation" in row for rows in results.values() for row in rows):
            kinds = ["box"]
    summary = proposal_figures(pairs, kinds, arguments["max_det"])
    name = redact(arguments["corpus"] or arguments["results"])
    table = proposal_table(summary, name)
    print(table)
    if arguments["output"]:
        _say_written(write_report(arguments["output"], "proposals", summary, table, proposal_plot(summary, name)))
    return summary


def _corpus_images(uri: str) -> Iterator[ExportImage]:
    """Every image of a corpus with all its masks, a unit in memory at a time."""
    from fastsam_batch.corpus.read import Corpus
    from fastsam_batch.export.budget import Budget
    from fastsam_batch.export.stream import Counts, labelled_images

    return labelled_images(Corpus.open(uri), Budget(), None, None, Counts())


def _output_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", help="folder or URI for a table (.md), a plot (.png) and a .json")


def _say_written(uris: list[str]) -> None:
    from fastsam_batch.storage import redact

    for uri in uris:
        print(f"written  {redact(uri)}")


def _progress_line(what: str) -> Callable[[int, int], None] | None:
    """Images done, on one line that is rewritten; nothing where there is no terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        print(f"\r{done} of {total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show


_EXPERIMENTS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[dict[str, Any]], Summary]]] = {
    "edges": (
        "Score edge maps against human segmentations by the BSDS500 protocol: ODS, OIS, AP, R50.",
        _edges_options,
        _edges,
    ),
    "proposals": (
        "Score class-agnostic masks against labelled objects: AR@10, @100, @1000 by size, AUC, AP.",
        _proposals_options,
        _proposals,
    ),
}
