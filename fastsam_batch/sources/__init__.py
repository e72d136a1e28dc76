"""Where images come from: one file an input format. Knows no models."""

from __future__ import annotations

from fastsam_batch.sources.detect import open_source, refuse_another_kind
from fastsam_batch.sources.locate import read_image_bytes

__all__ = ["open_source", "read_image_bytes", "refuse_another_kind"]
