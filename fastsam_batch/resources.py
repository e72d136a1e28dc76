"""How the job divides a cluster: actors, their devices and threads, and what is left for input and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastsam_batch.config import SegmentOptions
from fastsam_batch.errors import InputError

CPUS_PER_CPU_ACTOR = 4  # beyond, convolutions on one image gain little
COMMIT_CPUS = 0.25  # logical ones that a commit takes
GPU_BATCH, CPU_BATCH = 16, 1  # images
GPU_CROPS, CPU_CROPS = 256, 64
THREADS_A_GPU = 8  # masks and crops of a GPU at work take about so many cores, where there are as many


@dataclass(frozen=True)
class Resources:
    """`device` of the models, size range of the actor pool, logical CPUs and GPUs of each stage, an actor's threads."""

    device: str
    actors: tuple[int, int]
    actor_cpus: float
    actor_gpus: float | None
    threads: int
    fetch_cpus: float = 0.5
    batch_size: int = CPU_BATCH
    crops: int = CPU_CROPS  # embedded at once


def divide(options: SegmentOptions, cluster: Mapping[str, float], node_cpus: float | None = None) -> Resources:
    """Shares of a cluster with the given totals (`CPU`, `GPU`), as ray.cluster_resources() tells them.

    `node_cpus`: CPUs of its largest node, which no actor can outgrow; None for a cluster of one node. Raises
    InputError where CUDA is asked for and the cluster has no GPU.
    """
    cpus, gpus = max(int(cluster.get("CPU", 1)), 1), cluster.get("GPU", 0)
    if options.device == "cuda" and not gpus:
        raise InputError("--device cuda: the cluster has no GPU; use --device cpu or auto, or add a GPU node")
    if options.device == "cuda" or (options.device == "auto" and gpus):
        actors = options.actor_range(max(_fitting(gpus, options.gpus_per_actor), 1))
        return Resources(
            device="cuda",
            actors=actors,
            # Half of a node's CPUs at most: fetching and committing need some beside actors on all of its GPUs.
            actor_cpus=min(1, cpus / gpus * options.gpus_per_actor / 2),
            actor_gpus=options.gpus_per_actor,
            threads=max(min(int(cpus / max(gpus, 1) * options.gpus_per_actor), THREADS_A_GPU), 1),
            batch_size=options.batch_size or GPU_BATCH,
            crops=GPU_CROPS,
        )
    largest = cpus if node_cpus is None else max(int(node_cpus), 1)
    actors = options.actor_range(max(cpus // CPUS_PER_CPU_ACTOR, 1))
    # Logical shares leave one CPU to fetch and commit, however many actors begin; the threads may use all, input and
    # output being light.
    share = max(min((cpus - 1) / actors[1], largest - 1), 0.5) if cpus > 1 else 0.25
    actor_cpus = min(share, (cpus - 1 if cpus > 1 else 0.5) / actors[0])
    fitting = int(largest / actor_cpus)
    if fitting <= actors[1]:
        # What is left lies on one node then: on several, each might have too little for a task. Less than an actor's,
        # so that no further one takes it.
        left = min(1, largest / (fitting + 2))
        actor_cpus = min(actor_cpus, (largest - left) / fitting)
    fetch_cpus = 0.5 if cpus > 1 else 0.25
    return Resources(
        device="cpu",
        actors=actors,
        actor_cpus=actor_cpus,
        actor_gpus=None,
        threads=max(min(cpus // actors[1], largest), 1),
        # Of equal shares Ray makes one stage, in which a whole shard goes again through an actor that ended.
        fetch_cpus=fetch_cpus if fetch_cpus != actor_cpus else 0.8 * fetch_cpus,
        batch_size=options.batch_size or CPU_BATCH,
    )


def _fitting(gpus: float, of_an_actor: float) -> int:
    """How many actors GPUs hold, each of which takes a part of one of them."""
    return int(gpus) * int(1 / of_an_actor + 1e-9)
