"""Receipts: the commit of each unit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastsam_batch.errors import InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def read_receipt(fs: AbstractFileSystem, path: str) -> dict[str, Any]:
    """One receipt (schemas/receipt.v1.json). Raises InputError where it is not JSON."""
    try:
        receipt: dict[str, Any] = json.loads(fs.cat_file(path))
    except ValueError as error:
        raise InputError(f"{path}: a damaged receipt ({error}); delete it and run the job again") from error
    return receipt
