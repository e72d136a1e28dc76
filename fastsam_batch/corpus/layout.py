"""Names inside a corpus, so that no other file spells a path."""

from __future__ import annotations

CORPUS_FILE = "corpus.json"
LEASE_FILE = "lease.json"
PLAN_FOLDER = "plan"
MASKS_FOLDER = "masks"
IMAGES_FOLDER = "images"
RECEIPTS_FOLDER = "receipts"
ATTEMPTS_FOLDER = "attempts"
INDEX_FOLDER = "index"
INDEX_FILE = "index/index.json"


def plan_file(number: int) -> str:
    """Path of the `number`-th plan, counted from 1."""
    return f"{PLAN_FOLDER}/{number:04d}.parquet"


def masks_file(unit_id: str) -> str:
    """Path of a unit's masks."""
    return f"{MASKS_FOLDER}/{unit_id}.parquet"


def images_file(unit_id: str) -> str:
    """Path of a unit's images."""
    return f"{IMAGES_FOLDER}/{unit_id}.parquet"


def receipt_file(unit_id: str) -> str:
    """Path of a unit's receipt."""
    return f"{RECEIPTS_FOLDER}/{unit_id}.json"
