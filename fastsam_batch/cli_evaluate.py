"""The evaluate command: the experiments of the method's paper, each a subcommand."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fastsam_batch.cli_evaluate_edges import edges, edges_options
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
    from fastsam_batch.evaluate.regions import PromptKind
    from fastsam_batch.export.images import ExportImage

Summary = dict[str, Any]
_PROMPTS: tuple[PromptKind, ...] = ("everything", "point", "box")  # written out: the experiment loads when it runs


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch evaluate`."""
    experiments = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    for name, (help_text, add_options, _) in _EXPERIMENTS.items():
        add_options(
            experiments.add_parser(name, help=help_text, description=help_text, formatter_class=parser.formatter_class)
        )


def evaluate(arguments: dict[str, Any]) -> tuple[Summary, int]:
    """Run `fastsam-batch evaluate`: its summary, and the exit code."""
    return _EXPERIMENTS[arguments["experiment"]][2](arguments), 0


def _proposals_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--corpus", metavar="URI", help="what segment_corpus made: its masks are the proposals")
    add("--results", metavar="FILE", help="proposals of any program, as COCO results")
    add("--ground-truth", metavar="FILE", required=True, help="instances.json of COCO or LVIS; classes are ignored")
    add(
        "--rank-by",
        nargs="+",
        choices=("score", "stability", "product"),
        help="what puts a corpus's masks in order, product unless told; several are compared",
    )
    add("--max-det", type=int, default=1000, help="proposals an image at most")
    output_option(parser)


def _proposals(arguments: dict[str, Any]) -> Summary:
    from fastsam_batch.errors import InputError
    from fastsam_batch.evaluate.coco_files import read_results, read_truth_images, require_masks
    from fastsam_batch.evaluate.proposal_report import proposal_plot, proposal_table
    from fastsam_batch.evaluate.proposals import pair_corpus, pair_results, proposal_figures
    from fastsam_batch.export.images import BEST_RANK
    from fastsam_batch.storage import redact

    rankings = list(dict.fromkeys(arguments["rank_by"] or [BEST_RANK]))
    if (arguments["corpus"] is None) == (arguments["results"] is None):
        raise InputError("there is not one thing to measure; name either --corpus or --results")
    if arguments["results"] and arguments["rank_by"] not in (None, ["score"]):
        raise InputError(f"--rank-by {' '.join(rankings)}: results are ranked by their score only; leave it out")
    check_range("--max-det", arguments["max_det"], 1)
    truths = read_truth_images(arguments["ground_truth"])
    kinds, lacking = ["mask", "box"], list[str]()
    if arguments["corpus"]:
        pairs = pair_corpus(truths, *_corpus_images(arguments["corpus"]), rankings, lacking)
    else:
        results = read_results(arguments["results"])
        pairs = pair_results(truths, results)
        if not all("segmentation" in row for rows in results.values() for row in rows):
            kinds = ["box"]
    if "mask" in kinds:
        require_masks(truths, arguments["ground_truth"])
    summary = proposal_figures(pairs, kinds, arguments["max_det"])
    if arguments["corpus"]:
        summary["not_in_corpus"] = len(lacking)
    name = redact(arguments["corpus"] or arguments["results"])
    report(arguments["output"], "proposals", summary, name, proposal_table, proposal_plot)
    return summary


def _instances_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--corpus", metavar="URI", required=True, help="what segment_corpus made: its masks are chosen from")
    add("--detections", metavar="FILE", required=True, help="boxes with classes and scores, as COCO results")
    add("--ground-truth", metavar="FILE", required=True, help="instances.json of COCO, every category labelled")
    add("--max-det", type=int, default=100, help="objects of a category and image at most")
    output_option(parser)


def _instances(arguments: dict[str, Any]) -> Summary:
    from fastsam_batch.evaluate.coco_files import (
        read_category_names,
        read_results,
        read_truth_images,
        require_masks,
    )
    from fastsam_batch.evaluate.instance_report import instance_plot, instance_table
    from fastsam_batch.evaluate.instances import RANKING, check_detections, instance_figures, prompted_objects
    from fastsam_batch.evaluate.proposals import pair_images
    from fastsam_batch.storage import redact

    check_range("--max-det", arguments["max_det"], 1)
    truths = read_truth_images(arguments["ground_truth"])
    require_masks(truths, arguments["ground_truth"])
    names = read_category_names(arguments["ground_truth"])
    detections = read_results(arguments["detections"], "--detections", ("category_id",))
    check_detections(detections, {truth.id for truth in truths}, names.keys())
    lacking: list[str] = []
    pairs = (
        (truth, {RANKING: prompted_objects(image, detections.get(truth.id, []))})
        for truth, image in pair_images(truths, *_corpus_images(arguments["corpus"]), lacking)
    )
    summary = instance_figures(pairs, names, arguments["max_det"])
    summary["not_in_corpus"] = len(lacking)
    name = f"{redact(arguments['corpus'])}, boxes of {redact(arguments['detections'])}"
    report(arguments["output"], "instances", summary, name, instance_table, instance_plot)
    return summary


def _regions_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--corpus", metavar="URI", required=True, help="what segment_corpus made: its masks are chosen from")
    add(
        "--ground-truth",
        metavar="DIR",
        required=True,
        help="drawn masks named as the photographs: DUTS, ECSSD, Inria, WHU; or an MVTec category's ground_truth",
    )
    add(
        "--prompt",
        nargs="+",
        choices=_PROMPTS,
        help="what chooses the masks, taken from each drawn region; default: each of them",
    )
    add("--smallest", action="store_true", help="a point selects the smallest mask around it only")
    output_option(parser)


def _regions(arguments: dict[str, Any]) -> Summary:
    from pathlib import Path

    from fastsam_batch.evaluate.region_report import region_plot, region_table
    from fastsam_batch.evaluate.regions import drawn_masks, pair_regions, region_figures
    from fastsam_batch.storage import redact

    prompts = list(dict.fromkeys(arguments["prompt"] or _PROMPTS))
    if "point" not in prompts:
        refuse_unused(arguments, {"smallest": False}, "--prompt point")
    image_ids, images = _corpus_images(arguments["corpus"])
    lacking: list[str] = []
    pairs = pair_regions(image_ids, images, drawn_masks(Path(arguments["ground_truth"])), lacking)
    summary = region_figures(pairs, prompts, smallest=arguments["smallest"])
    summary["not_in_corpus"] = len(lacking)
    name = f"{redact(arguments['corpus'])} against {arguments['ground_truth']}"
    report(arguments["output"], "regions", summary, name, region_table, region_plot)
    return summary


def _speed_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--corpus", metavar="URI", required=True, help="what segment_corpus made: its masks answer the prompts")
    add("--images", type=int, default=20, help="time at most this many images")
    segmenter_options(parser, "time this model too, on the corpus's photographs")
    output_option(parser)


def _speed(arguments: dict[str, Any]) -> Summary:
    import platform

    from fastsam_batch.evaluate.speed import speed_figures
    from fastsam_batch.evaluate.speed_report import speed_plot, speed_table
    from fastsam_batch.storage import redact

    check_range("--images", arguments["images"], 1)
    _, images = _corpus_images(arguments["corpus"])
    machine: Summary = {"machine": platform.machine()}
    if arguments["segmenter"]:
        segmenter = load_segmenter(arguments)
        machine |= {"segmenter": redact(arguments["segmenter"]), "device": str(segmenter.device)}
        figures = speed_figures(images, arguments["images"], lambda pixels: segmenter.segment([pixels]))
    else:
        refuse_model_options(arguments)
        figures = speed_figures(images, arguments["images"])
    summary = {**machine, **figures}
    name = redact(arguments["corpus"])
    report(arguments["output"], "speed", summary, name, speed_table, speed_plot)
    return summary


def _corpus_images(uri: str) -> tuple[Iterator[str], Iterator[ExportImage]]:
    """The ids of all images of a corpus, and every image with all its masks, a unit in memory at a time."""
    from fastsam_batch.corpus.read import Corpus
    from fastsam_batch.export.budget import Budget
    from fastsam_batch.export.stream import Counts, labelled_images, segmented_ids

    corpus = Corpus.open(uri)
    return segmented_ids(corpus), labelled_images(corpus, Budget(), None, None, Counts())


_EXPERIMENTS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[dict[str, Any]], Summary]]] = {
    "edges": (
        "Score edge maps against human segmentations by the BSDS500 protocol: ODS, OIS, AP, R50.",
        edges_options,
        edges,
    ),
    "proposals": (
        "Score class-agnostic masks against labelled objects: AR@10, @100, @1000 by size, AUC, AP.",
        _proposals_options,
        _proposals,
    ),
    "instances": (
        "Score the masks that a detector's boxes choose: COCO mask AP by category.",
        _instances_options,
        _instances,
    ),
    "regions": (
        "Score masks chosen by prompts against drawn regions: IoU, F-beta, MAE, AUROC, AUPRO.",
        _regions_options,
        _regions,
    ),
    "speed": (
        "Time an image against the number of prompts, from 1 to 64 x 64 points.",
        _speed_options,
        _speed,
    ),
}
