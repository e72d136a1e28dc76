"""Which units can hold an image, told by what the corpus wrote down before: receipts and plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch.corpus.plan import plan_batches, plan_files
from fastsam_batch.storage import read_whole

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
    if not image_ids:
        return units
    wanted = pa.array(image_ids, pa.string())
    for path in plan_files(fs, root):
        try:
            for plan in plan_batches(read_whole(fs, path), ["unit_id", "members"]):
                members = plan["members"]
                ids = pc.struct_field(members.flatten(), "image_id")
                found = pc.is_in(ids, wanted)
                units.update(plan["unit_id"].take(pc.list_parent_indices(members).filter(found)).to_pylist())
                wanted = wanted.filter(pc.invert(pc.is_in(wanted, ids)))
                if not len(wanted):
                    return units
        except pa.ArrowException:  # a broken plan stops jobs, not readers: the images files tell as well
            continue
    return units
