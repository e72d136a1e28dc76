"""Rows and selections as the JSON that the page reads: plain values, no paths of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.masks.draw import PALETTE, RGB
from fastsam_batch.search.image import CorpusImage
from fastsam_batch.search.pictures import boxed_mask
from fastsam_batch.search.prompts import ImageSelection, TextAnswer
from fastsam_batch.search.thresholds import MIN_CALIBRATED
from fastsam_batch.storage import absolute, redact
from fastsam_batch.web.catalogue import Catalogue
from fastsam_batch.web.outlines import svg_path


def without_place(sentence: str, corpus: Corpus) -> str:
    """A sentence about the corpus with its name where it says the place: the page's users need not see folders."""
    for place in (absolute(corpus.uri).rstrip("/"), corpus.uri.rstrip("/"), redact(corpus.uri).rstrip("/")):
        sentence = sentence.replace(place, corpus.name) if "/" in place else sentence
    return sentence


def corpus_answer(catalogue: Catalogue) -> dict[str, Any]:
    """What the corpus is; `searchable` where texts can be asked."""
    corpus = catalogue.corpus
    return {
        "name": corpus.name,
        "identity": catalogue.identity,
        "version": catalogue.version,
        **{what: corpus.count(what) for what in ("images", "failed", "masks")},
        "searchable": corpus.embedding_dim is not None,
    }


def image_row_answer(row: dict[str, Any]) -> dict[str, Any]:
    """A row of images for the grid of photographs."""
    names = ("image_id", "width", "height", "n_masks", "status", "error_kind")
    return {**{name: row[name] for name in names}, "error_message": failure(row)}


def failure(row: dict[str, Any]) -> str | None:
    """Why an image failed, with its id where the corpus says its place; None for one that did not."""
    message: str | None = row["error_message"]
    return message and message.replace(row["uri"], row["image_id"])


def hits_answer(hits: pa.Table) -> list[dict[str, Any]]:
    """Hits in their order; `size` is the photograph's (width, height)."""
    answers = []
    for hit in hits.to_pylist():
        height, width = hit.pop("rle")["size"]
        hit.pop("uri")
        answers.append({**hit, "size": [width, height]})
    return answers


def image_answer(image: CorpusImage, colours: Sequence[RGB] | None) -> dict[str, Any]:
    """An image with its masks, large ones first: numbers, colour, and outline as an SVG path.

    `colours` in the order of `image.masks`; without them the palette's own order serves.
    """
    masks = []
    rows = image.masks.drop_columns(["embedding"]).to_pylist()
    for place, row in enumerate(rows):
        red, green, blue = colours[place] if colours else PALETTE[place % len(PALETTE)]
        numbers = {name: row[name] for name in ("mask_index", "bbox", "area", "score", "stability")}
        masks.append({**numbers, "colour": f"#{red:02x}{green:02x}{blue:02x}", "path": svg_path(boxed_mask(row).rle)})
    masks.sort(key=lambda mask: -mask["area"])
    return {**image_row_answer(image.row), "masks": masks}


def selection_answer(selection: ImageSelection) -> dict[str, Any]:
    """A selection: the masks in it, the union's outline, and how well each text's mask answers it."""
    return {
        "mask_indices": selection.mask_indices,
        "area": selection.area,
        "path": svg_path(selection.rle),
        "boxes": selection.to_json()["boxes"],
        "texts": [{**vars(answer), "weak": _is_weak(answer)} for answer in selection.texts],
    }


def _is_weak(answer: TextAnswer) -> bool:
    """True where a search of the whole corpus would not show the mask: a text selects the nearest whatever it is."""
    return answer.calibrated is not None and answer.calibrated < MIN_CALIBRATED
