"""Which units can hold an image, told by what the corpus wrote down before: receipts and plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastsam_batch.corpus.plan import plan_files
from fastsam_batch.storage import is_local, read_whole

_IMAGE_IDS = "members.list.element.image_id"

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def units_of_images(
    fs: AbstractFileSystem, root: str, receipts: Mapping[str, Mapping[str, Any]], image_ids: Collection[str]
) -> list[str]:
    """Committed units that are likely to hold these images, none for one of which nothing tells.

    A member of a shard carries the shard's name before `/` or `#`; other images stand in the plan by name,
    unless they are rows of a Parquet file with ids of their own. Raises OutageError where the store fails.
    """
    shards = {str(receipt.get("shard", "")) for receipt in receipts.values()} - {""}
    of_images, planned = set(), []
    for image_id in image_ids:
        ends = [place for place, sign in enumerate(image_id) if sign in "/#"]
        own = next((image_id[:end] for end in reversed(ends) if image_id[:end] in shards), None)
        if own:
            of_images.add(own)
        else:
            planned.append(image_id)
    units = {unit for unit, receipt in receipts.items() if receipt.get("shard") in of_images}
    return sorted(units | (_planned_units(fs, root, planned) & receipts.keys()))


def _planned_units(fs: AbstractFileSystem, root: str, image_ids: Sequence[str]) -> set[str]:
    """Units whose members the plan names and that are among the images; the plan is read until all are found."""
    units: set[str] = set()
    wanted = set(image_ids)
    for path in plan_files(fs, root) if wanted else []:
        if not wanted:
            break
        try:
            with pa.OSFile(path) if is_local(fs) else pa.BufferReader(read_whole(fs, path)) as file:
                parquet = pq.ParquetFile(file)
                for group in range(parquet.num_row_groups):
                    if not _may_name(parquet.metadata.row_group(group), wanted):
                        continue
                    for batch in parquet.iter_batches(row_groups=[group], columns=["unit_id", _IMAGE_IDS]):
                        ids = pc.struct_field(batch["members"].flatten(), "image_id")
                        found = pc.is_in(ids, pa.array(wanted, pa.string()))
                        of_units = pc.list_parent_indices(batch["members"]).filter(found)
                        units.update(batch["unit_id"].take(of_units).to_pylist())
                        wanted.difference_update(ids.filter(found).to_pylist())
        except pa.ArrowException:  # a broken plan stops jobs, not readers: the images files tell as well
            continue
    return units


def _may_name(group: pq.RowGroupMetaData, image_ids: Collection[str]) -> bool:
    """Whether a row group of a plan can name one of these images, as far as its statistics tell."""
    columns = (group.column(number) for number in range(group.num_columns))
    told = next((each.statistics for each in columns if each.path_in_schema == _IMAGE_IDS), None)
    if told is None or not told.has_min_max:
        return True
    # They go by UTF-8's bytes.
    return any(told.min.encode() <= image_id.encode() <= told.max.encode() for image_id in image_ids)
