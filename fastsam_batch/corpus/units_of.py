"""Which units can hold an image, told by what the corpus wrote down before: receipts and plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastsam_batch.corpus.layout import PLAN_FOLDER
from fastsam_batch.storage import join, list_names, read_whole

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def units_of_image(
    fs: AbstractFileSystem, root: str, receipts: Mapping[str, Mapping[str, Any]], image_id: str
) -> list[str]:
    """Committed units that are likely to hold an image, none where nothing tells.

    A member of a shard carries the shard's name before `/` or `#`; other images stand in the plan by name,
    unless they are rows of a Parquet file with ids of their own. Raises OutageError where the store fails.
    """
    shards = {str(receipt.get("shard", "")) for receipt in receipts.values()} - {""}
    own = [shard for shard in shards if image_id.startswith((f"{shard}/", f"{shard}#"))]
    if own:
        shard = max(own, key=len)
        return [unit for unit, receipt in receipts.items() if receipt.get("shard") == shard]
    folder = join(root, PLAN_FOLDER)
    for name in sorted(name for name in list_names(fs, folder) if name.endswith(".parquet")):
        data = pa.BufferReader(read_whole(fs, join(folder, name)))
        try:
            plan = pq.read_table(data, columns=["unit_id", "members"])
        except pa.ArrowException:  # a broken plan stops jobs, not readers: the images files tell as well
            continue
        members = plan["members"].combine_chunks()
        ids = pc.struct_field(members.flatten(), "image_id")
        place = pc.index(ids, image_id).as_py()
        if place >= 0:
            row = pc.list_parent_indices(members)[place].as_py()
            unit = plan["unit_id"][row].as_py()
            return [unit] if unit in receipts else []
    return []
