"""Images a second with 1, 2 and 4 actors, and with 2 actors on 1 and 2 nodes, over the ideal of one actor's many times.

One machine has too few cores for four actors' networks, so the device is made: every image takes `--seconds` of sleep,
one after the other in an actor (benchmarks/sleeping_decoder.py), and the built-in segmenter then sees 32 x 32 pixels.
Everything else is the real job on a real Ray: planning, fetching, actors, commits. The second node is another raylet
with its own object store on this machine. Rates are from the first unit's begin to the last commit.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import machine
import sleeping_decoder
from PIL import Image


def run(folder: Path, photographs: Path, actors: int, nodes: int, unit_size: int) -> dict:
    """The job on a fresh cluster of `nodes`, each with room for all actors."""
    import ray
    from ray.cluster_utils import Cluster

    from fastsam_batch.config import segment_options
    from fastsam_batch.run import segment_corpus

    cpus = 2 * max(actors // nodes, 1) + 2
    store = 256 * 2**20
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "object_store_memory": store})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=cpus, object_store_memory=store)
        cluster.wait_for_nodes()
        os.environ["RAY_ADDRESS"] = cluster.address
        output = folder / f"corpus-{actors}-{nodes}"
        values = {"input": str(photographs), "output": str(output), "unit_size": unit_size, "actors": str(actors)}
        summary = segment_corpus(segment_options({**values, "imgsz": 32, "embedder": "none", "device": "cpu"}))
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.pop("RAY_ADDRESS", None)
    rate = summary["images_per_second"]
    return {"actors": actors, "nodes": nodes, "images": summary["images"], "images_per_second": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="of an image")
    parser.add_argument("--unit-size", type=int, default=8)
    parser.add_argument("--units", type=int, default=12, help="an actor")
    parser.add_argument("--runs", nargs="+", default=["1x1", "2x1", "4x1", "2x2", "4x2"], help="actors x nodes")
    options = parser.parse_args()
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    os.environ["FASTSAM_BATCH_DECODER"] = "sleeping_decoder:decode"
    os.environ[sleeping_decoder.SECONDS] = str(options.seconds)
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for actors, nodes in (map(int, name.split("x")) for name in options.runs):
            photographs = Path(temporary, f"photographs-{actors}")
            photographs.mkdir(exist_ok=True)
            for number in range(actors * options.units * options.unit_size):
                Image.new("RGB", (32, 32)).save(photographs / f"{number:05d}.jpg")
            found.append(run(Path(temporary), photographs, actors, nodes, options.unit_size))
            alone = found[0]["images_per_second"] / found[0]["actors"]
            found[-1]["efficiency"] = round(found[-1]["images_per_second"] / (alone * actors), 3)
    print(
        json.dumps(
            {
                "machine": machine.name(),
                "device": f"made: a sleep of {options.seconds} s an image",
                "unit_size": options.unit_size,
                "units_per_actor": options.units,
                "runs": found,
            }
        )
    )


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Read as ray is imported: a busy machine takes longer to start, and its workers get as much of it as others.
    os.environ |= {"RAY_raylet_start_wait_time_s": "180", "RAY_agent_register_timeout_ms": "180000"}
    os.environ.setdefault("RAY_worker_niceness", "0")
    main()
