"""A Ray cluster of several nodes on this machine, and the processes in it that can be killed."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
from collections.abc import Callable
from typing import TypeVar

import psutil
from servers import free_ports

NODES = 2
STARTS = 6
HEALTH = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5, "health_check_timeout_ms": 5000}

T = TypeVar("T")


class Nodes:
    """A head without work and two nodes of two CPUs. Their workers inherit this process's environment."""

    def __init__(self) -> None:
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_BACKEND_LOG_LEVEL": "fatal",
            "RAY_raylet_start_wait_time_s": "60",  # a busy machine takes long
        }
        from ray.cluster_utils import Cluster

        self._cluster = _patiently(
            lambda: Cluster(initialize_head=True, head_node_args={"_system_config": HEALTH, **_node(0)})
        )
        self._workers: list[object] = []
        self.complete()

    @property
    def address(self) -> str:
        """For RAY_ADDRESS."""
        return str(self._cluster.address)

    def complete(self) -> None:
        """Start nodes in place of those that were killed."""
        missing = NODES - len(self._workers)
        self._workers += [_patiently(lambda: self._cluster.add_node(**_node(2))) for _ in range(missing)]
        if missing:
            self._cluster.wait_for_nodes(timeout=120)

    def kill(self, target: str, rng: random.Random) -> bool:
        """Kill an actor, a task's worker or a node without notice; False where there is none."""
        if target == "node":
            if not self._workers:
                return False
            node = self._workers.pop(rng.randrange(len(self._workers)))
            self._cluster.remove_node(node, allow_graceful=False)
            return True
        found = [
            process
            for process, title in _workers()
            if ("SegmentUnits" in title) == (target == "actor") and (target == "actor" or "MapBatches" in title)
        ]
        if not found:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            rng.choice(found).send_signal(signal.SIGKILL)
        return True

    def close(self) -> None:
        """Stop all nodes."""
        self._cluster.shutdown()


def _patiently(start: Callable[[], T]) -> T:
    """Start a node. On a busy machine its raylet may give up on its agents, and Ray then raises a plain Exception."""
    for _ in range(STARTS - 1):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    return start()


def _node(cpus: int) -> dict[str, object]:
    """Arguments of a node. Its agents get their ports: a raylet that asks them for theirs dies on a busy machine."""
    names = ("metrics_export_port", "metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return {"num_cpus": cpus, "num_gpus": 0, "object_store_memory": 100 * 2**20, "include_dashboard": False, **ports}


def _workers() -> list[tuple[psutil.Process, str]]:
    """Ray workers below this process, with their titles."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if title.startswith("ray::"):
                found.append((process, title))
    return sorted(found, key=lambda pair: pair[0].pid)
