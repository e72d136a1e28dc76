"""Text search, slow and obvious: every mask scored in float64, all of them sorted."""

from __future__ import annotations

from typing import Any

import numpy as np


def best_masks(
    rows: list[dict[str, Any]], vector: np.ndarray, top_k: int, min_score: float | None = None
) -> list[tuple[float, str, int]]:
    """(similarity, image_id, mask_index) of the best masks, best first."""
    scored = []
    for row in rows:
        if row["embedding"] is None:
            continue
        embedding = np.asarray(row["embedding"], np.float16).astype(np.float64)
        similarity = float(np.float32(np.sum(embedding * vector.astype(np.float64))))
        if min_score is None or similarity >= min_score:
            scored.append((similarity, row["image_id"], row["mask_index"]))
    return sorted(scored, key=lambda hit: (-hit[0], hit[1], hit[2]))[:top_k]
