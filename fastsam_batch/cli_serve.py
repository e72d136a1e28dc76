"""The serve command: the search page over a corpus."""

from __future__ import annotations

import argparse
from typing import Any

from fastsam_batch.cli_options import CORPUS, TEXT_ENCODER


def serve_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch serve`."""
    add = parser.add_argument
    add("--corpus", **CORPUS)
    add("--host", default="127.0.0.1", help="where to listen; anything but this machine needs a --token")
    add("--port", type=int, default=8000, help="0 takes a free one")
    add("--token", metavar="T", help="to be brought as ?token=T, once, or as Authorization: Bearer T")
    add("--embedder", **TEXT_ENCODER)


def serve(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch serve` until it is interrupted: its summary, and the exit code."""
    from fastsam_batch.corpus.read import Corpus
    from fastsam_batch.web.access import check_access
    from fastsam_batch.web.serve import serve as run

    check_access(arguments["host"], arguments["token"])
    corpus = Corpus.open(arguments["corpus"])
    behind = "?token=..." if arguments["token"] else ""

    def started(url: str) -> None:
        print(f"The search page is at {url}{behind} (Ctrl-C ends it)", flush=True)

    options = {name: arguments[name] for name in ("host", "port", "token", "embedder")}
    return run(corpus, started=started, **options), 0
