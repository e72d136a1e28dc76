"""Filters on masks, which may name columns of their images as well."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from fastsam_batch.corpus.dataset import holding, kept_rows
from fastsam_batch.corpus.tokens import tokenize
from fastsam_batch.corpus.where import parse_where

ImagesOf = Callable[[str], pa.Table]


@dataclass(frozen=True)
class MaskFilter:
    """A filter as an expression, with the columns it names: `own` of masks, `of_images` those that only images have."""

    expression: pc.Expression
    own: tuple[str, ...] = ()
    of_images: tuple[str, ...] = ()


def mask_filter(
    where: str | pc.Expression, columns: Mapping[str, pa.DataType], of_masks: Collection[str]
) -> MaskFilter:
    """A filter over `columns`, of which those `of_masks` are the masks' own; a pyarrow expression names these alone.

    Raises InputError as `parse_where`.
    """
    if not isinstance(where, str):
        return MaskFilter(where)
    expression = parse_where(where, columns)
    # A box is named by its parts.
    named = {token.text.partition(".")[0] for token in tokenize(where) if token.kind == "name"}
    return MaskFilter(expression, tuple(sorted(named & {*of_masks})), tuple(sorted(named - {*of_masks})))


def of_image(row: Mapping[str, Any]) -> pc.Expression:
    """A filter for the masks of an image, by its row of images; it opens the file of the image's unit only."""
    return (pc.field("unit_id") == row["unit_id"]) & (pc.field("image_id") == row["image_id"])


def masks_kept(file: ds.FileSystemDataset, where: MaskFilter, images_of: Callable[[], pa.Table]) -> NDArray[np.bool_]:
    """Of each mask in a unit's file, in its order, whether a filter holds; only the columns that it names are read.

    `images_of` as for `filter_joined`, of that unit. Raises as `kept_rows`.
    """
    if not where.of_images:
        return kept_rows(file, where.expression)
    masks = file.to_table([*{*where.own, "image_id"}], use_threads=False)
    return holding(ds.dataset(join(masks, images_of())).to_table({"kept": where.expression})["kept"])


def filter_joined(
    batches: Iterator[pa.RecordBatch], images_of: ImagesOf, where: pc.Expression, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """The rows of masks for which a filter over their own and their image's columns holds, by these columns.

    Each batch is of one unit and has `unit_id` and `image_id`; `images_of` gives the images of a unit with the
    columns that are joined.
    """
    unit_id, images = None, None
    for batch in batches:
        if images is None or batch["unit_id"][0].as_py() != unit_id:
            unit_id = batch["unit_id"][0].as_py()
            images = images_of(unit_id)
        yield from join(pa.Table.from_batches([batch]), images).filter(where).select(columns).to_batches()


def join(masks: pa.Table, images: pa.Table) -> pa.Table:
    """Masks, which have an `image_id`, with those columns of their images that they do not have themselves."""
    of_images = images.take(pc.index_in(masks["image_id"], images["image_id"]))
    for name in of_images.column_names:
        if name not in masks.column_names:
            masks = masks.append_column(name, of_images[name])
    return masks
