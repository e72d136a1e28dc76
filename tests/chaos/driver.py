"""Drivers of the job as processes of their own, forked from one that has imported what they need."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

_PRELOAD = ["torch", "ultralytics.nn.tasks", "ray.data", "s3fs", "fastsam_batch.run", "fastsam_batch.pipeline"]


class Drivers:
    """Starts `fastsam-batch segment` with arguments and an environment."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)

    def start(self, arguments: list[str], environment: dict[str, str], log: Path) -> multiprocessing.Process:
        """The process; what it prints goes to `log`.out and `log`.err."""
        process = self._context.Process(target=_drive, args=(arguments, environment, str(log)))
        process.start()
        return process


def _drive(arguments: list[str], environment: dict[str, str], log: str) -> None:
    for number, name in ((1, ".out"), (2, ".err")):
        with open(log + name, "ab") as file:
            os.dup2(file.fileno(), number)
    os.environ.update(environment)
    from fastsam_batch.cli import main

    sys.exit(main(["segment", *arguments]))
