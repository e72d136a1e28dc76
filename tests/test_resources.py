"""How the job divides a cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastsam_batch.config import segment_options
from fastsam_batch.errors import InputError
from fastsam_batch.resources import divide


def options(**values):
    return segment_options({"input": "x", "output": "y", **values})


@pytest.mark.parametrize("nodes", [[1], [2], [4], [16], [2, 2], [1, 1, 1], [2, 8], [4] * 16, [64] * 4])
@pytest.mark.parametrize("actors", [None, "1", "3", "1:5", "40"])
def test_an_actor_fits_on_a_node_beside_a_task(nodes, actors):
    found = divide(options(actors=actors), {"CPU": sum(nodes)}, max(nodes))
    assert 0 < found.actor_cpus <= max(nodes)
    if max(nodes) > 1:
        assert found.actor_cpus + found.fetch_cpus <= max(nodes)
    assert 1 <= found.threads <= max(nodes)
    assert found.fetch_cpus != found.actor_cpus  # else Ray makes one stage of the two
    # The pool begins at its smallest size at once, and nothing moves unless a task to fetch has room beside it.
    assert found.actors[0] * found.actor_cpus + found.fetch_cpus <= max(sum(nodes), 1) + 1e-9


@pytest.mark.parametrize(
    ("nodes", "actors"),
    [
        *(([8] * 3, actors) for actors in (None, "12", "1:40")),
        *((nodes, None) for nodes in ([16] * 8, [8] * 16, [12, 6, 6, 6], [64] * 4, [16])),
        ([8] * 16, "1:200"),
        ([4] * 2, "9"),
    ],
)
def test_however_actors_are_spread_a_node_has_room_for_the_other_tasks(nodes, actors):
    """Three nodes of 8 CPUs with two actors of 3.83 each had .33 left, where no unit could be fetched."""
    found = divide(options(actors=actors), {"CPU": sum(nodes)}, max(nodes))
    fitting = int(max(nodes) / found.actor_cpus + 1e-9)
    assert max(nodes) - fitting * found.actor_cpus >= found.fetch_cpus


@pytest.mark.parametrize(
    ("cpus", "gpus", "of_an_actor"), [(4, 1, 0.25), (4, 8, 1), (1, 1, 1), (16, 1, 1), (96, 8, 0.5)]
)
def test_actors_on_all_gpus_of_a_node_leave_cpus(cpus, gpus, of_an_actor):
    for nodes in (1, 3):
        cluster = {"CPU": nodes * cpus, "GPU": nodes * gpus}
        found = divide(options(gpus_per_actor=of_an_actor), cluster, cpus)
        assert found.actors[1] / nodes * found.actor_cpus + found.fetch_cpus <= cpus


def test_gpus_make_the_actors():
    found = divide(options(), {"CPU": 64, "GPU": 8}, 16)
    assert (found.device, found.actors, found.actor_gpus, found.threads) == ("cuda", (8, 8), 1.0, 8)
    assert divide(options(gpus_per_actor=0.25), {"CPU": 64, "GPU": 8}, 16).threads == 2
    assert divide(options(), {"CPU": 2, "GPU": 4}, 2).threads == 1


@pytest.mark.parametrize(("of_an_actor", "actors"), [(0.3, 24), (0.1, 80), (0.5, 16), (1, 8)])
def test_an_actor_s_part_of_a_gpu_lies_on_one(of_an_actor, actors):
    assert divide(options(gpus_per_actor=of_an_actor), {"CPU": 64, "GPU": 8}, 64).actors == (actors, actors)


def test_cuda_without_a_gpu_is_refused():
    with pytest.raises(InputError, match="no GPU"):
        divide(options(device="cuda"), {"CPU": 4}, 4)


def test_workers_that_only_fetch_and_commit_load_no_torch():
    """They import the pipeline's module, which would else cost each of them seconds and half a gigabyte."""
    script = "import sys, fastsam_batch.pipeline; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=200)
