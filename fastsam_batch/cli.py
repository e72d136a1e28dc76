"""The command line: parse options, call one function, print its summary as the last line."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import fastsam_batch
from fastsam_batch.cli_embed import embed, embed_options
from fastsam_batch.cli_evaluate import evaluate, evaluate_options
from fastsam_batch.cli_export import export, export_options
from fastsam_batch.cli_export_model import export_model, export_model_options
from fastsam_batch.cli_index import index, index_options
from fastsam_batch.cli_label import label, label_options
from fastsam_batch.cli_progress import ProgressLine, print_summary, print_unfinished, too_many_failed
from fastsam_batch.cli_search import search, search_options
from fastsam_batch.cli_select import select, select_options
from fastsam_batch.cli_serve import serve, serve_options
from fastsam_batch.cli_status import status, status_options
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import is_refusal

DONE, FAILED, BAD_INPUT, TOO_MANY_FAILED = 0, 1, 2, 3
Summary = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """`fastsam-batch COMMAND …`. Returns 0 done, 2 bad arguments or input, 3 not all of it done, 1 else."""
    parser = argparse.ArgumentParser(prog="fastsam-batch", description=fastsam_batch.__doc__, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"%(prog)s {fastsam_batch.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (help_text, add_options, _) in _COMMANDS.items():
        add_options(commands.add_parser(name, help=help_text, description=help_text, formatter_class=_Help))
    arguments = vars(parser.parse_args(argv))
    command = _COMMANDS[arguments.pop("command")][2]
    return _finish(command, arguments)


def job(name: str, argv: Sequence[str] | None = None) -> int:
    """One command as a script of its own: what jobs/*.py run."""
    help_text, add_options, command = _COMMANDS[name]
    parser = argparse.ArgumentParser(description=help_text, formatter_class=_Help)
    add_options(parser)
    return _finish(command, vars(parser.parse_args(argv)))


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # "(default: None)" tells nobody anything.
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _finish(command: Callable[[dict[str, Any]], tuple[Summary, int]], arguments: dict[str, Any]) -> int:
    _quiet_libraries()
    try:
        _check_text(arguments.values())
        summary, code = command(arguments)
        print(json.dumps(summary), flush=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OutageError as error:
        if is_refusal(error):
            print(f"error: {error}; name another place, or credentials that may go there", file=sys.stderr)
            return BAD_INPUT
        print(f"error: {error}; run the same command again", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return FAILED
    except Exception as error:  # noqa: BLE001 (the outermost: it ends as a traceback and exit code 1)
        if not (isinstance(error, BrokenPipeError) and _reader_left()):
            traceback.print_exc()
        return FAILED
    return code


def _check_text(values: Iterable[Any]) -> None:
    """Raise InputError for a text, alone or in a list, of bytes that are not UTF-8: Python makes surrogates of them."""
    for value in values:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and any("\ud800" <= sign <= "\udfff" for sign in text):
                raise InputError(f"the argument {text!r} is not UTF-8; write it in UTF-8, or rename the file it names")


def _reader_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more, as behind `| head`."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # What is still to be written would fail anew when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _segment_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--input",
        required=True,
        metavar="URI",
        help="folder of images, .tar/.tar.gz shards, Parquet (bytes or uri), CSV/JSON Lines with uri, a glob, or demo:",
    )
    add("--output", required=True, metavar="URI", help="the corpus; run again to add what is missing")
    models = parser.add_argument_group("models")
    models.add_argument("--segmenter", default="builtin", help="builtin, FastSAM-s, FastSAM-x, or a path or URI")
    models.add_argument(
        "--embedder",
        default="builtin",
        help="builtin, ARCH:TAG of open_clip, hf-hub:ORG/REPO, a folder, ARCH:FILE, or none",
    )
    add = parser.add_argument_group("results (part of the corpus's fingerprint)").add_argument
    add("--imgsz", type=int, help="long side of the network's input; default: the weights' own, FastSAM 1024")
    add("--conf", type=float, help="confidence threshold; default: the weights' own, FastSAM 0.4")
    add("--iou", type=float, help="NMS threshold; default: the weights' own, FastSAM 0.9")
    add("--max-masks", type=int, default=300, help="masks an image at most")
    add(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="segment larger images in tiles of this side too, so that small objects are found; default: no tiles",
    )
    add("--overlap", type=int, metavar="PIXELS", help="what neighbouring tiles share; default: a quarter of --tile")
    add("--min-area", type=int, default=100, help="smaller masks (pixels) get no embedding")
    add(
        "--crop",
        choices=("masked", "context", "both"),
        default="both",
        help="what CLIP sees: background removed, box with margin, or the mean of the two",
    )
    add(
        "--embedding-mode",
        choices=("crop", "pool"),
        default="crop",
        help="pool: one CLIP pass an image, averaged under each mask; small masks and sparse images keep crops",
    )
    add("--max-pixels", type=int, default=100_000_000, help="larger images fail as too_large")
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="what networks compute in; auto: CLIP in bfloat16 where the device has it, segmenters on CUDA in float16",
    )
    add = parser.add_argument_group("running").add_argument
    add("--unit-size", type=int, default=128, help="images committed together")
    add("--batch-size", type=int, help="images a forward pass; default: 16 on a GPU, 1 on a CPU")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where the models run")
    add("--actors", metavar="N|MIN:MAX", help="size of the actor pool; default: what the cluster holds")
    add("--gpus-per-actor", type=float, default=1.0, help="share of a GPU an actor takes")
    add(
        "--limit",
        type=int,
        help="hold at most this many images; more are added by a run with a higher limit or none",
    )
    add("--decode-seconds", type=float, default=60, help="an image that takes longer to decode fails as timeout")
    add(
        "--record-unreachable",
        action="store_true",
        help="images named by URI whose server does not answer fail, instead of leaving their unit to a rerun",
    )
    add("--max-failed-fraction", type=float, default=1.0, help="exit 3 where more of the corpus failed")
    add("--verbose", action="store_true", help="show Ray's own log, and its statistics of the stages at the end")
    add = parser.add_argument_group("columns of Parquet and manifest inputs").add_argument
    add("--bytes-column", default="bytes", help="encoded image")
    add("--uri-column", default="uri", help="where the image is")
    add("--id-column", default="image_id", help="image_id, optional")


def _segment(arguments: dict[str, Any]) -> tuple[Summary, int]:
    from fastsam_batch.config import segment_options

    options = segment_options(arguments)
    from fastsam_batch.run import segment_corpus

    if options.verbose:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("fastsam_batch").setLevel(logging.INFO)
    summary = segment_corpus(options, ProgressLine().show)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print_summary(summary, options.output)
    print_unfinished(summary, can_record=not options.record_unreachable)
    too_many = too_many_failed(summary, options.output, options.max_failed_fraction)
    return summary, TOO_MANY_FAILED if too_many or summary["unfinished_units"] else DONE


def _verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", required=True, metavar="URI", help="what segment_corpus made")


def _verify(arguments: dict[str, Any]) -> tuple[Summary, int]:
    from fastsam_batch.corpus.verify import verify_corpus

    report = verify_corpus(arguments["corpus"])
    for note in report.notes:
        print(f"note   {note.file}: {note.problem}")
    for problem in report.problems:
        print(f"wrong  {problem.file}: {problem.problem}")
    print("the corpus is whole" if report.ok else f"{len(report.problems)} problems")
    summary = {
        "ok": report.ok,
        "units": report.units,
        "images": report.images,
        "masks": report.masks,
        "problems": len(report.problems),
        "notes": len(report.notes),
    }
    return summary, DONE if report.ok else FAILED


def _quiet_libraries() -> None:
    """Keep libraries from reporting usage or installing packages on their own, and from what an error says later."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # without a network it warns of every attempt, a dozen lines


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[..., tuple[Summary, int]]]] = {
    "segment": (
        "Segment everything in images and embed every mask, into a corpus.",
        _segment_options,
        _segment,
    ),
    "embed": ("Embed the masks of a corpus anew, without segmenting anew.", embed_options, embed),
    "export-model": ("Write a segmenter for ONNX Runtime, OpenVINO or TensorRT.", export_model_options, export_model),
    "search": ("Find the masks of a corpus that look like a text, or like a mask.", search_options, search),
    "index": ("Build or renew an index of a corpus's embeddings, for fast searches.", index_options, index),
    "select": ("Select masks of one image by points, boxes or a text, without a model.", select_options, select),
    "label": ("Give every mask of a corpus a label by saved queries, or none.", label_options, label),
    "export": ("Write a corpus's masks as labels, for annotation tools and training.", export_options, export),
    "serve": ("Open a page to search a corpus, prompt its photographs and pick masks.", serve_options, serve),
    "evaluate": ("Measure what masks are worth: the experiments of the method's paper.", evaluate_options, evaluate),
    "status": ("Tell what of a corpus is done, failed and left, and how fast it goes.", status_options, status),
    "verify": ("Check every receipt, file, digest, count and row of a corpus.", _verify_options, _verify),
}

if __name__ == "__main__":
    sys.exit(main())
