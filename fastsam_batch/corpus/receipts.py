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
    return parse_receipt(path, read_whole(fs, path))


def parse_receipt(name: str, content: bytes) -> dict[str, Any]:
    """A receipt's content. Raises InputError where it is not JSON, or names no unit."""
    try:
        receipt: dict[str, Any] = json.loads(content)
        _ = receipt["unit_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{name}: a damaged receipt ({error}); delete it and run the job again") from error
    return receipt
