"""The command line: parse options, call one function, print its summary as the last line."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
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
from fastsam_batch.cli_search import search, search_options
from fastsam_batch.cli_segment import segment, segment_options
from fastsam_batch.cli_select import select, select_options
from fastsam_batch.cli_serve import serve, serve_options
from fastsam_batch.cli_status import status, status_options
from fastsam_batch.cli_verify import verify, verify_options
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import is_refusal
from fastsam_batch.words import shown

_NEGATIVE_FIRST = re.compile(r"-[\d.][^,]*(,[^,]+)+")  # a point or a box
FAILED, BAD_INPUT = 1, 2  # besides what a command returns: 0 done, 3 not all of it
Summary = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """`fastsam-batch COMMAND …`. Returns 0 done, 2 bad arguments or input, 3 not all of it done, 1 else."""
    parser = argparse.ArgumentParser(prog="fastsam-batch", description=fastsam_batch.__doc__, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"%(prog)s {fastsam_batch.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (help_text, add_options, _) in _COMMANDS.items():
        add_options(commands.add_parser(name, help=help_text, description=help_text, formatter_class=_Help))
    arguments = vars(parser.parse_args(_signed(argv)))
    command = _COMMANDS[arguments.pop("command")][2]
    return _finish(command, arguments)


def job(name: str, argv: Sequence[str] | None = None) -> int:
    """One command as a script of its own: what jobs/*.py run."""
    help_text, add_options, command = _COMMANDS[name]
    parser = argparse.ArgumentParser(description=help_text, formatter_class=_Help)
    add_options(parser)
    return _finish(command, vars(parser.parse_args(_signed(argv))))


def _signed(argv: Sequence[str] | None) -> list[str]:
    """The arguments, those of several numbers of which the first is negative so that argparse takes them for values."""
    given = sys.argv[1:] if argv is None else argv
    return [f" {each}" if _NEGATIVE_FIRST.fullmatch(each) else each for each in given]


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # "(default: None)" tells nobody anything.
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _finish(command: Callable[[dict[str, Any]], tuple[Summary, int]], arguments: dict[str, Any]) -> int:
    _quiet_libraries()
    began = time.perf_counter()
    try:
        _check_text(arguments.values())
        summary, code = command(arguments)
        summary.setdefault("seconds", round(time.perf_counter() - began, 3))
        print(json.dumps(summary), flush=True)
    except InputError as error:
        _tell(f"error: {error}")
        return BAD_INPUT
    except OutageError as error:
        if is_refusal(error):
            _tell(f"error: {error}; name another place, or credentials that may go there")
            return BAD_INPUT
        _tell(f"error: {error}; run the same command again")
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return FAILED
    except Exception as error:  # noqa: BLE001 (the outermost: it ends as a traceback and exit code 1)
        if not (isinstance(error, BrokenPipeError) and _reader_left()):
            traceback.print_exc()
        return FAILED
    return code


def _tell(sentence: str) -> None:
    print(shown(sentence), file=sys.stderr)


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


def _quiet_libraries() -> None:
    """Keep libraries from reporting usage or installing packages on their own, and from what an error says later."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # without a network it warns of every attempt, a dozen lines
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns that an index's first table is not there yet


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[..., tuple[Summary, int]]]] = {
    "segment": ("Segment everything in images and embed every mask, into a corpus.", segment_options, segment),
    "embed": ("Embed the masks of a corpus anew, without segmenting anew.", embed_options, embed),
    "export-model": ("Write a segmenter for ONNX Runtime, OpenVINO or TensorRT.", export_model_options, export_model),
    "search": ("Find the masks of a corpus that look like a text, or like a mask.", search_options, search),
    "index": ("Build or renew an index of a corpus's embeddings, for fast searches.", index_options, index),
    "select": ("Select masks of one image by points and boxes, without a model, or by texts.", select_options, select),
    "label": ("Give every mask of a corpus a label by saved queries, or none.", label_options, label),
    "export": ("Write a corpus's masks as labels, for annotation tools and training.", export_options, export),
    "serve": ("Open a page to search a corpus, prompt its photographs and pick masks.", serve_options, serve),
    "evaluate": ("Measure what masks are worth: the experiments of the method's paper.", evaluate_options, evaluate),
    "status": ("Tell what of a corpus is done, failed and left, and how fast it goes.", status_options, status),
    "verify": ("Check every receipt, file, digest, count and row of a corpus.", verify_options, verify),
}

if __name__ == "__main__":
    sys.exit(main())
