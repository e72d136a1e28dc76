"""How often a unit was begun without being committed, and which attempt at it may commit.

attempts/<unit_id>/<number>-<run> is written before a unit is processed and all of them are removed after its
commit: what is there when a unit begins are attempts that died, or that still go on somewhere, cut off from their
job. Only the newest may commit, so that one that comes back late writes nothing. The folder is a trace, not part of
the result.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from functools import partial

from fastsam_batch.corpus.layout import ATTEMPTS_FOLDER
from fastsam_batch.outage import answering, retry
from fastsam_batch.storage import filesystem, is_local, join, list_names, write_atomic

MAX_ATTEMPTS = 4  # in one run


@dataclass(frozen=True)
class Attempt:
    """One attempt at a unit: its number over all runs and within this one, both from 1, and its file's name."""

    number: int
    in_run: int
    name: str


def begin_attempt(corpus_uri: str, unit_id: str, run: str) -> Attempt:
    """Record that a unit begins in the run of that name. Raises OutageError where the store keeps failing."""
    fs, root = filesystem(corpus_uri)
    folder = join(root, ATTEMPTS_FOLDER, unit_id)
    before = list_names(fs, folder)
    number = max((_number(name) for name in before), default=0) + 1
    in_run = sum(name.endswith(f"-{run}") for name in before) + 1
    name = f"{number:04d}-{run}"
    write_atomic(fs, join(folder, name), b"begun\n")
    return Attempt(number, in_run, name)


def is_newest(corpus_uri: str, unit_id: str, name: str) -> bool:
    """True where no other attempt at the unit has begun since, and none was committed."""
    fs, root = filesystem(corpus_uri)
    names = list_names(fs, join(root, ATTEMPTS_FOLDER, unit_id))
    return max(names, default="") == name


def end_attempts(corpus_uri: str, unit_id: str) -> None:
    """Forget a unit's attempts: it is committed. Raises OutageError where the store keeps failing."""
    fs, root = filesystem(corpus_uri)
    folder = join(root, ATTEMPTS_FOLDER, unit_id)

    if is_local(fs):
        with answering(), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        return

    # Name by name: fsspec's own removal of a folder takes `[`, `*` and `?` in its path for a pattern.
    def remove(path: str) -> None:
        with answering(), contextlib.suppress(FileNotFoundError):  # removed by another task
            fs.rm_file(path)

    for name in list_names(fs, folder):
        retry(partial(remove, join(folder, name)))


def _number(name: str) -> int:
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() else 0
