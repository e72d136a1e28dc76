"""How much memory a large image with many masks takes, and a unit of many bytes on its way through Ray.

`image`: peak memory of one process above its loaded models, for one photograph enlarged to `--megapixels`, with as
many masks as `--masks` allows. `unit`: one tar unit of `--mebibytes` through the job on a local Ray whose object
store holds a quarter of that; its members are no images, so that what is measured is the transport.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fastsam_batch.config import segment_options
from fastsam_batch.models.pair import load_models
from fastsam_batch.run import segment_corpus
from fastsam_batch.sources import open_source
from fastsam_batch.sources.base import EncodedImage, Planned, UnitBytes
from fastsam_batch.unit import UnitOptions, process_unit

MIB = 2**20


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("image", "unit"))
    parser.add_argument("--megapixels", type=int, default=200)
    parser.add_argument("--masks", type=int, default=1000)
    parser.add_argument("--mebibytes", type=int, default=512)
    options = parser.parse_args()
    found = image(options.megapixels, options.masks) if options.what == "image" else unit(options.mebibytes)
    print(json.dumps(found))


def image(megapixels: int, masks: int) -> dict[str, object]:
    """Peak memory above the models, and the share that the pixels themselves take."""
    models = load_models(
        {"path": "builtin", "conf": 1e-4, "iou": 0.99, "max_masks": masks}, {"name": "builtin"}, "cpu", None
    )
    demo = open_source("demo:")
    (planned,) = demo.plan(Planned(), 100, None)
    (photographs,) = demo.read(planned, ())
    photograph = next(found for found in photographs.images if found.image_id == "coffee.png")
    process_unit(UnitBytes("warm", "", False, (photograph,)), *models, UnitOptions())
    with Image.open(io.BytesIO(photograph.data or b"")) as small:
        scale = (megapixels * 1e6 / (small.width * small.height)) ** 0.5
        size = (round(small.width * scale), round(small.height * scale))
        buffer = io.BytesIO()
        small.convert("RGB").resize(size).save(buffer, "JPEG")
    encoded = EncodedImage("large", "large", buffer.getvalue())
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of making the image
    began = time.perf_counter()
    result = process_unit(
        UnitBytes("unit", "", False, (encoded,)), *models, UnitOptions(max_pixels=2 * size[0] * size[1])
    )
    (row,) = result.images.to_pylist()
    return {
        "megapixels": round(size[0] * size[1] / 1e6, 1),
        "status": row["status"],
        "masks": result.masks.num_rows,
        "pixels_mib": size[0] * size[1] * 3 // MIB,
        "peak_above_models_mib": (status("VmHWM") - before) // MIB,
        "seconds": round(time.perf_counter() - began, 1),
    }


def unit(mebibytes: int) -> dict[str, object]:
    """Peak use of the object store and of the largest worker."""
    import psutil
    import ray
    from ray._private.internal_api import memory_summary

    members = 16
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).bytes(mebibytes * MIB // members)
        with tarfile.open(Path(folder, "shard.tar"), "w") as archive:
            for number in range(members):
                info = tarfile.TarInfo(f"{number:02d}.png")
                info.size = len(noise)
                archive.addfile(info, io.BytesIO(noise))
        store = mebibytes * MIB // 4
        ray.init(address="local", num_cpus=2, object_store_memory=store, include_dashboard=False, log_to_driver=False)
        peaks = {"store": 0, "worker": 0}
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.2):
                for child in psutil.Process().children(recursive=True):
                    try:
                        if " ".join(child.cmdline()).startswith("ray::"):
                            held = child.memory_info()
                            peaks["worker"] = max(peaks["worker"], (held.rss - held.shared) // MIB)
                    except psutil.Error:
                        continue
                try:
                    summary = memory_summary(stats_only=True)
                except ray.exceptions.RaySystemError:  # a busy machine answers later
                    continue
                for line in summary.splitlines():
                    if line.startswith("Plasma memory usage"):
                        peaks["store"] = max(peaks["store"], round(float(line.split()[3])))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            summary = segment_corpus(
                segment_options({"input": f"{folder}/shard.tar", "output": f"{folder}/out", "embedder": "none"})
            )
        finally:
            ended.set()
            watcher.join()
            ray.shutdown()
    return {
        "unit_mib": mebibytes,
        "store_mib": store // MIB,
        "units": summary["units"],
        "unfinished_units": summary["unfinished_units"],
        "images": summary["images"],
        "peak_store_mib": peaks["store"],
        "peak_worker_private_mib": peaks["worker"],
        "seconds": summary["seconds"],
    }


def status(name: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main()
