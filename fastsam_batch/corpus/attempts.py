"""How often a unit was begun without being committed, so that no image can be retried for ever.

attempts/<unit_id>/<n> is written before a unit is processed and removed after its commit: what is there
when a unit begins are attempts that died. The folder is a trace, not part of the result.
"""

from __future__ import annotations

from fastsam_batch.corpus.layout import ATTEMPTS_FOLDER
from fastsam_batch.storage import filesystem, join, write_atomic

MAX_ATTEMPTS = 4


def begin_attempt(corpus_uri: str, unit_id: str) -> int:
    """Record that a unit begins; which attempt at it this is, from 1."""
    fs, root = filesystem(corpus_uri)
    folder = join(root, ATTEMPTS_FOLDER, unit_id)
    fs.invalidate_cache()  # other processes write here
    before = len(fs.ls(folder, detail=False)) if fs.isdir(folder) else 0
    write_atomic(fs, join(folder, str(before + 1)), b"begun\n")
    return before + 1


def end_attempts(corpus_uri: str, unit_id: str) -> None:
    """Forget a unit's attempts: it is committed."""
    fs, root = filesystem(corpus_uri)
    folder = join(root, ATTEMPTS_FOLDER, unit_id)
    fs.invalidate_cache()
    if fs.isdir(folder):
        fs.rm(folder, recursive=True)
