"""Filters on masks that name columns of their images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch.corpus.tokens import tokenize

ImagesOf = Callable[[str], pa.Table]


def named_columns(where: str) -> set[str]:
    """The columns that a filter names, a box by its own name. Raises InputError for a text that is no filter."""
    return {token.text.partition(".")[0] for token in tokenize(where) if token.kind == "name"}


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
        of_images = images.take(pc.index_in(batch["image_id"], images["image_id"]))
        joined = pa.Table.from_batches([batch])
        for name in of_images.column_names:
            if name not in joined.column_names:
                joined = joined.append_column(name, of_images[name])
        yield from joined.filter(where).select(columns).to_batches()
