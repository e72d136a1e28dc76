"""Search by example: stored masks as queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from fastsam_batch.corpus.filters import of_image
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.errors import InputError
from fastsam_batch.search.best import MaskKey
from fastsam_batch.search.scan import check_embedded
from fastsam_batch.storage import redact

_DIGITS = 18  # what every 64-bit integer can hold


def mask_vectors(corpus: Corpus, masks: Sequence[MaskKey]) -> NDArray[np.float32]:
    """Query vectors float32 [n, D], unit length, of stored masks, each (image_id, mask_index).

    Raises InputError for an image or a mask that the corpus does not hold, or one without an embedding.
    """
    dim = check_embedded(corpus)
    images = corpus.image_rows([image_id for image_id, _ in masks])
    vectors = [_vector(corpus, images[mask[0]], mask) for mask in masks]
    return np.array(vectors, np.float32).reshape(len(masks), dim)


def mask_name(mask: MaskKey) -> str:
    """What a search by example is called in its result: `image_id#mask_index`."""
    return f"{mask[0]}#{mask[1]}"


def parse_mask(text: str, option: str) -> MaskKey:
    """The mask that `image_id#mask_index` names. Raises InputError for another form, naming the option."""
    image_id, sign, index = text.rpartition("#")
    if not sign or not image_id or not index.isdecimal() or len(index) > _DIGITS:
        raise InputError(f"{option} {text}: write image_id#mask_index, such as 00000.tar/cup.jpg#3")
    return image_id, int(index)


def mask_keys(like: str | MaskKey | Sequence[str | MaskKey]) -> list[MaskKey]:
    """Masks to search by, once each: one or several, each (image_id, mask_index) or `image_id#mask_index`.

    Raises InputError for anything else.
    """
    alone = isinstance(like, str) or (len(like) == 2 and isinstance(like[1], (int, np.integer)))
    named: Sequence[Any] = [like] if alone else like
    keys = []
    for mask in named:
        if isinstance(mask, str):
            keys.append(parse_mask(mask, "like"))
        elif len(mask) == 2 and isinstance(mask[0], str) and isinstance(mask[1], (int, np.integer)):
            keys.append((mask[0], int(mask[1])))
        else:
            raise InputError(f"like {mask!r}: give (image_id, mask_index), such as ('00000.tar/cup.jpg', 3)")
    return list(dict.fromkeys(keys))


def _vector(corpus: Corpus, image: dict[str, Any], mask: MaskKey) -> NDArray[np.float32]:
    masks = corpus.only([image["unit_id"]]).masks(["mask_index", "embedding"], of_image(image))
    found = masks.filter(pc.field("mask_index") == mask[1])
    if not len(found):
        indices = masks["mask_index"].to_pylist()
        raise InputError(
            f"the corpus {redact(corpus.uri)} holds no mask {mask[1]} of {mask[0]!r}; "
            + (f"its masks are {min(indices)} to {max(indices)}" if indices else "no mask was found on it")
        )
    vector = embedding_matrix(found["embedding"].combine_chunks())[0]
    if not np.isfinite(vector).all():
        raise InputError(f"mask {mask[1]} of {mask[0]!r} has no embedding, for it is too small; choose another")
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)
