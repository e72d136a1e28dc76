"""Prometheus metrics of the job, through Ray's own exporter: what actors and commits have done so far.

Ray serves them at each node's metrics port with the prefix `ray_` and the labels of the worker. They count
work, retried work included; the corpus's receipts count results. Recorded once a unit, and not at all where
Ray's metrics are off (RAY_enable_metrics_collection=0).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastsam_batch.corpus.rows import UnitResult
    from fastsam_batch.sources.base import UnitBytes

PREFIX = "fastsam_batch_"
_SWITCH = "RAY_enable_metrics_collection"
# Name: what it counts, and by which label.
COUNTERS: dict[str, tuple[str, str | None]] = {
    "images": ("Images processed, failed ones included", None),
    "failed_images": ("Images that ended as a row with a reason, by error kind", "kind"),
    "masks": ("Masks found", None),
    "stage_seconds": ("Seconds of work by stage", "stage"),
    "read_bytes": ("Encoded bytes of the images processed", None),
    "oom_retries": ("Batches halved after CUDA ran out of memory, by model", "model"),
    "units": ("Units committed", None),
    "written_bytes": ("Bytes of Parquet committed", None),
}


class JobMetrics:
    """The job's counters: however often they are made, a process has one of each name. Elsewhere than in a Ray worker
    they record nothing.
    """

    def __init__(self) -> None:
        self._counters: dict[str, Any] = {}
        self._oom_retries: Counter[str] = Counter()  # counted before, by model
        if os.environ.get(_SWITCH, "1").lower() in ("0", "false"):
            return
        from ray.util.metrics import Counter as RayCounter

        for name, (description, label) in COUNTERS.items():
            self._counters[name] = RayCounter(PREFIX + name, description, tag_keys=(label,) if label else ())

    def processed(self, unit: UnitBytes, result: UnitResult, oom_retries: Mapping[str, int]) -> None:
        """A unit went through the models; `oom_retries` by model, of this process so far."""
        if not self._counters:
            return
        self._add("images", result.images.num_rows)
        self._add("masks", result.masks.num_rows)
        self._add("read_bytes", sum(len(image.data) for image in unit.images if image.data is not None))
        for kind, count in Counter(kind for kind in result.images["error_kind"].to_pylist() if kind).items():
            self._add("failed_images", count, kind)
        for stage, seconds in result.stages.items():
            self._add("stage_seconds", seconds, stage)
        for model, count in oom_retries.items():
            self._add("oom_retries", count - self._oom_retries[model], model)
            self._oom_retries[model] = count

    def committed(self, receipt: Mapping[str, Any]) -> None:
        """A unit's receipt was written."""
        self._add("units", 1)
        self._add("written_bytes", sum(file["bytes"] for file in receipt["files"].values()))
        self._add("stage_seconds", receipt["stages"]["commit"], "commit")

    def _add(self, name: str, value: float, label: str | None = None) -> None:
        if self._counters and value > 0:
            key = COUNTERS[name][1]
            self._counters[name].inc(value, tags={key: label} if key and label else None)
