"""The Ray a job runs on: the cluster that RAY_ADDRESS names, or one of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

from fastsam_batch.errors import InputError, OutageError

_REMEDY = "name a cluster as HEAD:6379, send the job to it by `ray job submit`, or unset it to work on this machine"
_ANSWERS_WITHIN = 10.0  # seconds
JOINING_S = 900.0
_LOOK_S = 1.0

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def joined_ray(verbose: bool, needed: str | None = None) -> Iterator[tuple[dict[str, float], float | None]]:
    """The Ray that is there, or one of its own until the end: its resources, and the CPUs of its largest node.

    A cluster that has no machine to work on yet, or none with the resource that is `needed` (`GPU`), is waited for, for
    JOINING_S at most: it is there some minutes before its machines are. Raises InputError for a RAY_ADDRESS of no
    cluster, OutageError where its own does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    own, address = not ray.is_initialized(), "local"
    if own:
        level = logging.INFO if verbose else logging.ERROR
        if not verbose:
            # Ray's core reports, as an error, that Ray Data's own actors take arguments (ray#53727).
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        logging.getLogger("ray.data").setLevel(level)
        # A cluster is joined when RAY_ADDRESS names it, as in a submitted job. Left to itself, Ray would try the
        # last cluster this machine ever ran, for minutes if it is gone.
        address = os.environ.get("RAY_ADDRESS") or "local"
        # The dashboard's processes would take CPU from the models all along; a head that was started has its own.
        own_node: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        try:
            check_answers(address)
            ray.init(address, logging_level=level, log_to_driver=verbose, **own_node)
        except Exception as error:
            # Of its own processes that are not there in time Ray tells as an Exception and no more.
            if address == "local" and (type(error) is Exception or isinstance(error, OSError | RuntimeError)):
                raise OutageError(
                    f"Ray does not start on this machine ({_reason(error)}); it may be too busy, or out of memory"
                ) from error
            # What it raises for addresses and tokens that do not fit.
            if address != "local" and isinstance(error, ValueError | OSError | RuntimeError):
                raise InputError(f"RAY_ADDRESS {address}: {_reason(error)}; {_REMEDY}") from error
            raise
    try:
        if address != "local":
            _await_machines([needed] if needed else ["CPU", "GPU"])
        nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        yield ray.cluster_resources(), max(nodes, default=None)
    finally:
        if own:
            ray.shutdown()


def _await_machines(any_of: list[str]) -> None:
    import ray
    from ray.autoscaler.sdk import request_resources

    def is_there() -> bool:
        return any(ray.cluster_resources().get(resource) for resource in any_of)

    if is_there():
        return
    needed = " or ".join(any_of)
    logger.warning("no machine with a %s has joined the cluster yet: waiting %.0f s at most", needed, JOINING_S)
    if len(any_of) == 1:
        # An autoscaler starts machines for work alone, and may have ended its first one while the job was planned.
        request_resources(bundles=[{needed: 1}])
    try:
        began = time.monotonic()
        while not is_there() and time.monotonic() - began < JOINING_S:
            time.sleep(_LOOK_S)
    finally:
        if len(any_of) == 1:
            request_resources(bundles=[])


def check_answers(address: str) -> None:
    """Raises OSError where nothing listens at HOST:PORT, for which Ray would wait for minutes. Other forms pass."""
    match = re.fullmatch(r"(?:ray://)?\[?([\w.:-]+?)\]?:(\d+)", address)
    if match:
        with socket.create_connection((match[1], int(match[2])), timeout=_ANSWERS_WITHIN):
            return


def _reason(error: Exception) -> str:
    said = re.split(r"\.\s|\n", str(error).strip())[0][:200]
    return said or type(error).__name__
