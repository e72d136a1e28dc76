"""An experiment's files: NAME.json with everything, NAME.md with a table, NAME.png with a plot."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastsam_batch.storage import Uri, join, write_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with its numbers to the right: floats to three places, None as a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "".join(f"| {' | '.join(line)} |\n" for line in [list(head), rule, *cells])


def write_report(folder: Uri, name: str, document: dict[str, Any], text: str, figure: Figure) -> list[str]:
    """Write the three files into a folder (a path or URI), and return where they are.

    Raises InputError where they cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    contents = {
        "json": (json.dumps(document, indent=1) + "\n").encode(),
        "md": text.encode(),
        "png": picture.getvalue(),
    }
    written = [join(folder, f"{name}.{suffix}") for suffix in contents]
    for uri, content in zip(written, contents.values(), strict=True):
        write_result(uri, content)
    return written


def images_said(document: dict[str, Any]) -> str:
    """How many labelled images there are, and how many of them a corpus lacks."""
    lacking = document.get("not_in_corpus")
    said = f" ({lacking} of them not segmented in the corpus: all their objects are missed)" if lacking else ""
    return f"{document['images']} images{said}"


def new_figure(width: float = 6.4, height: float = 4.8) -> Figure:
    """An empty figure in inches that needs no display and leaves pyplot's state alone."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
