"""The evaluate command: the experiments of the method's paper, each a subcommand."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

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
    add("--edge-maps", metavar="DIR", required=True, help="maps to score: .png, .npy or ucm2 .mat, named as the images")
    add("--ground-truth", metavar="DIR", required=True, help="human segmentations, BSDS500's groundTruth .mat files")
    add("--max-distance", type=float, default=0.0075, help="largest distance of a pair, as a share of the diagonal")
    add("--workers", type=int, help="processes; default: this machine's cores")
    _output_option(parser)


def _edges(arguments: dict[str, Any]) -> Summary:
    from pathlib import Path

    from fastsam_batch.evaluate.edge_files import pair_edge_files
    from fastsam_batch.evaluate.edge_report import edge_plot, edge_table
    from fastsam_batch.evaluate.edge_scores import summarise_edges
    from fastsam_batch.evaluate.edges import count_folder
    from fastsam_batch.evaluate.report import write_report

    files = pair_edge_files(Path(arguments["edge_maps"]), Path(arguments["ground_truth"]))
    name = Path(arguments["edge_maps"]).resolve().name
    counts = count_folder(
        files,
        max_distance=arguments["max_distance"],
        workers=arguments["workers"],
        progress=_progress_line(),
    )
    summary = summarise_edges(counts)
    table = edge_table(summary, name)
    print(table)
    if arguments["output"]:
        _say_written(write_report(arguments["output"], "edges", summary, table, edge_plot(summary, name)))
    return {key: value for key, value in summary.items() if key != "curve"}


def _output_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="DIR", help="folder or URI for a table (.md), a plot (.png) and a .json")


def _say_written(uris: list[str]) -> None:
    from fastsam_batch.storage import redact

    for uri in uris:
        print(f"written  {redact(uri)}")


def _progress_line() -> Callable[[int, int], None] | None:
    """Images done, on one line that is rewritten; nothing where there is no terminal."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        print(f"\r{done} of {total} images", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show


_EXPERIMENTS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[dict[str, Any]], Summary]]] = {
    "edges": (
        "Score edge maps against human segmentations by the BSDS500 protocol: ODS, OIS, AP, R50.",
        _edges_options,
        _edges,
    ),
}
