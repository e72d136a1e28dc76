"""Masks picked on the page, as COCO instances."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.errors import InputError, NotInCorpusError
from fastsam_batch.export.coco import write_document
from fastsam_batch.export.images import ExportImage, ExportMask
from fastsam_batch.export.run import export_info
from fastsam_batch.web.catalogue import Catalogue

MOST_PICKS = 10_000


class Pick(BaseModel):
    """One picked mask, and the name of its category."""

    image_id: str = Field(min_length=1, max_length=4096)
    mask_index: int = Field(ge=0, lt=2**31)
    label: str = Field(default="object", min_length=1, max_length=300)


class Picks(BaseModel):
    """What the page asks to export."""

    masks: list[Pick] = Field(min_length=1, max_length=MOST_PICKS)


def picked_coco(catalogue: Catalogue, picks: Sequence[Pick]) -> tuple[bytes, int]:
    """COCO instances of the picked masks, each once, categories and images in the order of the picks; and how many
    picks were left out because the corpus does not hold them (any more).

    Raises InputError where it holds none of them.
    """
    asked = {(pick.image_id, pick.mask_index): pick for pick in picks}
    picks = [pick for pick in asked.values() if _is_held(catalogue, pick)]
    if not picks:
        raise InputError("none of the picked masks is in this corpus; put them back and pick anew")
    categories: dict[str, int] = {}
    by_image: dict[str, list[Pick]] = {}
    for pick in picks:
        categories.setdefault(pick.label, len(categories))
        by_image.setdefault(pick.image_id, []).append(pick)
    images = [_image(catalogue, image_id, of_image, categories) for image_id, of_image in by_image.items()]
    sink = io.BytesIO()
    write_document(sink, images, list(categories), _info(catalogue.corpus))
    return sink.getvalue(), len(asked) - len(picks)


def _info(corpus: Corpus) -> dict[str, Any]:
    """As every export's, without the server's folders."""
    info = export_info(corpus)
    models = {role: model and {"sha256": model["sha256"]} for role, model in info["models"].items()}
    return {**info, "description": f"Masks of {corpus.name}", "models": models}


def _is_held(catalogue: Catalogue, pick: Pick) -> bool:
    try:
        catalogue.mask(pick.image_id, pick.mask_index)
    except NotInCorpusError:
        return False
    return True


def _image(catalogue: Catalogue, image_id: str, picks: Sequence[Pick], categories: Mapping[str, int]) -> ExportImage:
    masks = []
    for pick in picks:
        image, row = catalogue.mask(image_id, pick.mask_index)
        masks.append(ExportMask.of(row, categories[pick.label]))
    return ExportImage(image_id, "", image["width"], image["height"], tuple(masks))
