"""Ids of Parquet rows before any work: each may be given once in all files of an input."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fastsam_batch.errors import InputError
from fastsam_batch.sources.fetch import THREADS, stored_uri
from fastsam_batch.sources.parquetrows import ColumnNames, read_ids


def refuse_repeated(uris: Sequence[str], columns: ColumnNames) -> None:
    """Raises InputError naming the first id that two rows of the files share.

    Holds 8 bytes a row: ids are compared by their hashes, and read a second time only where two are equal.
    """
    import numpy as np

    hashes: array[int] = array("q")
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(partial(read_ids, columns=columns, use=_hashes), uris):
            hashes.extend(found)
    ordered = np.sort(np.frombuffer(hashes, np.int64))
    repeated = frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if repeated:
        _name_repeated(uris, columns, repeated)


def _hashes(image_ids: Iterator[str]) -> array[int]:
    return array("q", map(hash, image_ids))


def _name_repeated(uris: Sequence[str], columns: ColumnNames, repeated: frozenset[int]) -> None:
    def suspects(image_ids: Iterator[str]) -> list[str]:
        return [image_id for image_id in image_ids if hash(image_id) in repeated]

    first: dict[str, str] = {}
    for uri in uris:
        for image_id in read_ids(uri, columns, suspects):
            if image_id in first:
                raise InputError(
                    f"{stored_uri(uri)} names the image {image_id!r} a second time (first in {first[image_id]}): "
                    f"give each row an {columns.id} of its own, or name another column with --id-column"
                )
            first[image_id] = stored_uri(uri)
