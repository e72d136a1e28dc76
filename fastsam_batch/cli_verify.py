"""The verify command: is a corpus what it says it is."""

from __future__ import annotations

import argparse
from typing import Any

from fastsam_batch.cli_options import CORPUS
from fastsam_batch.words import counted


def verify_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch verify`."""
    parser.add_argument("--corpus", **CORPUS)


def verify(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch verify`: its summary, and the exit code, 1 where something is wrong."""
    from fastsam_batch.corpus.verify import verify_corpus

    report = verify_corpus(arguments["corpus"])
    for note in report.notes:
        print(f"note   {note.file}: {note.problem}")
    for problem in report.problems:
        print(f"wrong  {problem.file}: {problem.problem}")
    print("the corpus is whole" if report.ok else counted(len(report.problems), "problem"))
    summary = {
        "ok": report.ok,
        "units": report.units,
        "images": report.images,
        "masks": report.masks,
        "problems": len(report.problems),
        "notes": len(report.notes),
    }
    return summary, 0 if report.ok else 1
