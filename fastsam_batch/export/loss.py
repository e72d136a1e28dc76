"""What a format loses of the masks: IoU after the round trip, holes and parts, the worst cases by name."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_WORST = 20
_STEPS = 1000  # IoUs are counted in steps this fine, so that a median costs no memory


@dataclass
class LossReport:
    """Collects, mask by mask, what writing it as a polygon cost.

    `holes` and `parts` (beyond a mask's first) are totals of the masks seen; `holes_lost` were filled up,
    `parts_lost` left out, `parts_joined` linked by lines that a filling draws a pixel wide; `fallbacks` masks
    were written as RLE and `refused` ones not at all, because they would have lost more than was allowed.
    """

    masks: int = 0
    exact: int = 0
    holes: int = 0
    holes_lost: int = 0
    parts: int = 0
    parts_lost: int = 0
    parts_joined: int = 0
    fallbacks: int = 0
    refused: int = 0
    _sum: float = 0.0
    _ious: Counter[int] = field(default_factory=Counter)
    _worst: list[tuple[float, str, int, dict[str, Any]]] = field(default_factory=list)

    def add(
        self,
        image_id: str,
        mask_index: int,
        iou: float,
        *,
        parts: int,
        holes: int,
        holes_lost: int = 0,
        parts_lost: int = 0,
        parts_joined: int = 0,
        outcome: str = "written",
    ) -> None:
        """One mask: the IoU of its polygon, filled, with it. `outcome`: written, fallback or refused."""
        self.masks += 1
        self.exact += iou == 1.0
        self.holes += holes
        self.parts += parts - 1
        self.fallbacks += outcome == "fallback"
        self.refused += outcome == "refused"
        if outcome == "written":
            self.holes_lost += holes_lost
            self.parts_lost += parts_lost
            self.parts_joined += parts_joined
        self._sum += iou
        self._ious[int(iou * _STEPS)] += 1
        if iou < 1.0:
            case = {"image_id": image_id, "mask_index": mask_index, "iou": round(iou, 4)}
            case |= {"parts": parts, "holes": holes, "outcome": outcome}
            entry = (-iou, image_id, mask_index, case)
            if len(self._worst) < _WORST:
                heapq.heappush(self._worst, entry)
            else:
                heapq.heappushpop(self._worst, entry)

    def quantile(self, share: float) -> float:
        """The IoU that so large a share of the masks does not reach, to a thousandth; 1 where there are none."""
        seen = 0
        for step in sorted(self._ious):
            seen += self._ious[step]
            if seen > share * self.masks:
                return step / _STEPS
        return 1.0

    def to_json(self) -> dict[str, Any]:
        """The report: figures over all masks, None where there are none, and the worst of them, worst first."""
        worst = [case for *_, case in sorted(self._worst, key=lambda entry: (-entry[0], entry[1], entry[2]))]
        return {
            "masks": self.masks,
            "exact": self.exact,
            "mean_iou": round(self._sum / self.masks, 6) if self.masks else None,
            "iou_p01": self.quantile(0.01) if self.masks else None,
            "iou_p50": self.quantile(0.5) if self.masks else None,
            "min_iou": worst[0]["iou"] if worst else 1.0 if self.masks else None,
            "holes": self.holes,
            "holes_lost": self.holes_lost,
            "parts": self.parts,
            "parts_lost": self.parts_lost,
            "parts_joined": self.parts_joined,
            "fallbacks": self.fallbacks,
            "refused": self.refused,
            "worst": worst,
        }
