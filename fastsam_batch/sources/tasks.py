"""Which planned units one task reads, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from fastsam_batch.sources.base import PlanRow

# Of a file. What lies before a task's rows in their row group is read for it once more. So a file that holds images
# costs 2.5 readings at most; one that only names them has rows that take little to read, and images that take long.
MOST_TASKS = 4
MOST_TASKS_OF_NAMES = 16
_NAME_BYTES = 4096  # of the file, a row


def tasks(rows: Sequence[PlanRow], readers: int) -> list[slice]:
    """The rows cut into what one task reads with one `Source.reader`, in order.

    Neighbours in a Parquet file go together, because a row group can be read from its beginning only; other rows
    stand alone. With fewer files than `readers`, the actors that wait for units, a file is cut for a few tasks.
    """

    def file_of(index: int) -> tuple[str, int | None]:
        return rows[index].shard, None if rows[index].kind == "rows" else index

    files = [list(indices) for _, indices in groupby(range(len(rows)), file_of)]
    found: list[slice] = []
    for indices in files:
        first, count = indices[0], len(indices)
        parts = min(count, _most_tasks(rows[indices[-1]], -(-readers // len(files))))
        cuts = [first + count * part // parts for part in range(parts + 1)]
        found += map(slice, cuts, cuts[1:])
    return found


def _most_tasks(last: PlanRow, readers: int) -> int:
    """For the file of which this is the last row, and which that many readers wait for."""
    if last.shard_size is not None and last.stop and last.shard_size < last.stop * _NAME_BYTES:
        return MOST_TASKS_OF_NAMES
    return min(readers, MOST_TASKS)
