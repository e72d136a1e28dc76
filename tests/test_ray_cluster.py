"""Joining a cluster: an address of none is one sentence, at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import ray
from servers import free_ports

from fastsam_batch.ray_cluster import check_answers, joined_ray

# In a process of its own: one that has joined a Ray stays in it.
JOIN = """
import json, os, sys
from fastsam_batch.errors import InputError
from fastsam_batch.ray_cluster import joined_ray
told = []
for address in json.loads(sys.argv[1]):
    os.environ["RAY_ADDRESS"] = address
    try:
        with joined_ray(verbose=False):
            told.append("joined")
    except InputError as error:
        told.append(str(error))
print(json.dumps(told))
"""


def test_an_address_of_no_cluster_is_refused():
    port = free_ports(1)[0]
    addresses = [f"http://127.0.0.1:{port}", f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "nonsense"]
    command = [sys.executable, "-c", JOIN, json.dumps(addresses)]
    printed = subprocess.run(command, check=True, timeout=200, stdout=subprocess.PIPE).stdout
    for address, told in zip(addresses, json.loads(printed.splitlines()[-1]), strict=True):
        assert told.startswith(f"RAY_ADDRESS {address}: ") and told.endswith("or unset it to work on this machine")
        assert "ray job submit" in told and "\n" not in told and len(told) < 250


def test_a_ray_that_does_not_start_is_one_sentence(tmp_path):
    """Its control store is given no time at all, as on a machine that is too busy."""
    job = [sys.executable, "-m", "fastsam_batch", "segment", "--input", "demo:", "--output", str(tmp_path / "corpus")]
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    env["RAY_gcs_server_port_wait_time_s"] = "0"
    ended = subprocess.run(job, env=env, timeout=200, check=False, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stdout == ""
    *_, told = ended.stderr.splitlines()
    assert told.startswith("error: Ray does not start on this machine (")
    assert told.endswith("; run the same command again") and "Traceback" not in ended.stderr


def test_an_empty_address_is_none(monkeypatch):
    begun = []
    for name, value in {"RAY_ADDRESS": "", "RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}.items():
        monkeypatch.setenv(name, value)
    for name in ("is_initialized", "nodes", "cluster_resources", "shutdown"):
        monkeypatch.setattr(ray, name, dict)  # nothing there
    monkeypatch.setattr("fastsam_batch.ray_cluster.JOINING_S", 0)
    monkeypatch.setattr(ray, "init", lambda address, **_: begun.append(address))
    with joined_ray(verbose=False):
        assert begun == ["local"]


@pytest.mark.parametrize("address", ["auto", "local", "http://127.0.0.1:1"])
def test_what_names_no_port_of_ray_s_is_left_to_ray(address):
    check_answers(address)


JOIN_LATER = """
import logging, os, subprocess, sys, threading
from pathlib import Path
from ray.cluster_utils import Cluster
from ray.autoscaler import sdk
from fastsam_batch import ray_cluster

request = sdk.request_resources
sdk.request_resources = lambda **asked: print("asked for", asked["bundles"], request(**asked))
logging.basicConfig(format="%(message)s")
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
os.environ["RAY_ADDRESS"] = cluster.address
ray = str(Path(sys.executable).parent / "ray")
begin = [ray, "start", "--block", "--address", cluster.address, "--num-cpus=1", "--num-gpus=0"]
nodes = []
join = lambda: nodes.append(subprocess.Popen(begin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
threading.Timer(2, join).start()
with ray_cluster.joined_ray(verbose=False) as (total, node_cpus):
    print(total["CPU"], node_cpus)
ray_cluster.JOINING_S = 2
with ray_cluster.joined_ray(verbose=False, needed="GPU") as (total, node_cpus):
    print(total.get("GPU"), node_cpus)
nodes[0].terminate()
nodes[0].wait()
cluster.shutdown()
"""


def test_a_job_waits_for_a_cluster_s_first_machine(tmp_path):
    """As right after `ray up`: the head is there, and works on nothing."""
    command = [sys.executable, "-c", JOIN_LATER]
    done = subprocess.run(command, check=True, timeout=200, capture_output=True, text=True, cwd=tmp_path)
    assert [line for line in done.stdout.splitlines() if line.startswith(("asked for", "1.0", "None"))] == [
        "1.0 1.0",
        *("asked for [{'GPU': 1}] None", "asked for [] None", "None 1.0"),
    ]
    assert "no machine with a CPU or GPU has joined the cluster yet: waiting 900 s at most" in done.stderr
    assert "no machine with a GPU has joined the cluster yet: waiting 2 s at most" in done.stderr
