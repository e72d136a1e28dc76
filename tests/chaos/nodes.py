"""A Ray cluster of several nodes on this machine, and the processes in it that can be killed."""

from __future__ import annotations

import contextlib
import random
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
from servers import free_ports
from warm import AGENTS_ENVIRONMENT, descendants, interpreter

NODES = 2
STARTS = 6
HEALTH = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5, "health_check_timeout_ms": 5000}
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_raylet_start_wait_time_s": "60",  # a busy machine takes long
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",  # after which a driver whose head is gone gives up
    "RAY_worker_niceness": "0",
    **AGENTS_ENVIRONMENT,
}

T = TypeVar("T")


def environment() -> dict[str, str]:
    """For all that has to do with a cluster, before anything of Ray is imported."""
    return {**ENVIRONMENT, "RAY_AUTH_TOKEN": secrets.token_hex(32)}


class Nodes:
    """A head without work and two nodes of two CPUs. Their workers inherit this process's environment."""

    def __init__(self, python: Path, forks: int) -> None:
        """`python` starts the nodes' Python programs as children of the process `forks`."""
        self._python, self._forks = python, forks
        self._cluster: Any = None
        self._workers: list[Any] = []
        self.complete()

    @property
    def address(self) -> str:
        """For RAY_ADDRESS."""
        return str(self._cluster.address)

    def complete(self) -> None:
        """Start nodes in place of those that were killed, and of those that a busy machine took for dead."""
        from ray.cluster_utils import Cluster

        with interpreter(self._python):
            if self._cluster is None:
                arguments = {"_system_config": HEALTH, **_node(0)}
                self._cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=arguments))
            alive = {node["NodeID"] for node in self._cluster.global_state.node_table() if node["Alive"]}
            for node in [node for node in self._workers if node.node_id not in alive]:
                self._remove(node)
            missing = NODES - len(self._workers)
            self._workers += [_patiently(lambda: self._cluster.add_node(**_node(2))) for _ in range(missing)]

    def replace(self) -> None:
        """What an autoscaler does: a job whose nodes have all gone goes on when others come."""
        if self._cluster is not None and len(self._workers) < NODES:
            self.complete()

    def kill(self, target: str, rng: random.Random, port: int | None) -> str | None:
        """Kill an actor, a task's worker, a node or the head without notice: what it was, None where there is none.

        Of several it is the one that has just asked the store for something, from that port.
        """
        if target == "head":
            self._end()
            return "head"
        if target == "node":
            if not self._workers:
                return None
            self._remove(rng.choice(self._workers))
            return "node"
        wanted = ("SegmentUnits",) if target == "actor" else ("MapBatches(fetch)", "MapBatches(commit)")
        found = [(process, name) for process, title in self._titles() for name in wanted if name in title]
        if not found:
            return None
        asking = [pair for pair in found if port is not None and _has_port(pair[0], port)]
        process, name = rng.choice(asking or found)
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            return None
        return "actor" if target == "actor" else name[11:-1]

    def close(self) -> None:
        """Stop all nodes."""
        if self._cluster is not None:
            self._cluster.shutdown()

    def _end(self) -> None:
        """The head ends at once, and with it the cluster: its nodes serve no other."""
        for node in [self._cluster.head_node, *self._workers]:
            started = [child for processes in node.all_processes.values() for one in processes
                       for child in descendants(one.process.pid)]  # fmt: skip
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            for process in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._cluster, self._workers = None, []

    def _remove(self, node: Any) -> None:
        """A node and all that runs on it end at once."""
        self._workers.remove(node)
        started = [child for raylet in node.live_processes() for child in descendants(raylet[1].pid)]
        self._cluster.remove_node(node, allow_graceful=False)
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _titles(self) -> list[tuple[psutil.Process, str]]:
        """Ray's workers with their titles."""
        found = []
        for process in descendants(self._forks):
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                if title.startswith("ray::"):
                    found.append((process, title))
        return sorted(found, key=lambda pair: pair[0].pid)


def _has_port(process: psutil.Process, port: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(connection.laddr.port == port for connection in process.net_connections("tcp4"))
    return False


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
