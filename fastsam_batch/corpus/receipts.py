"""Receipts: the commit of each unit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastsam_batch.errors import InputError
from fastsam_batch.storage import read_whole

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def read_receipt(fs: AbstractFileSystem, path: str) -> dict[str, Any]:
    """One receipt (schemas/receipt.v1.json). Raises InputError where it is not JSON, FileNotFoundError, OutageError."""
    try:
        receipt: dict[str, Any] = json.loads(read_whole(fs, path))
    except ValueError as error:
        raise InputError(f"{path}: a damaged receipt ({error}); delete it and run the job again") from error
    return receipt
