"""docs/cluster.md: the arithmetic it shows, and the names it gives, computed anew."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from fastsam_batch.metrics import COUNTERS, PREFIX

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
MILLION = 1_000_000


def table(mark: str) -> list[list[str]]:
    """The rows of the table behind a comment."""
    lines = PAGE.split(f"<!-- {mark}", 1)[1].splitlines()[1:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


@pytest.mark.parametrize("row", table("cost table"), ids=" ".join)
def test_costs(row):
    images_per_second, nodes, node_price, head_price, hours, cost = map(float, row)
    took = MILLION / (images_per_second * nodes * 3600)
    assert hours == pytest.approx(took, abs=0.05)
    node_hours = MILLION / (images_per_second * 3600)
    assert cost == pytest.approx(node_hours * node_price + took * head_price, abs=0.005)


def test_requests():
    units = math.ceil(MILLION / 128)
    told = r"are ([\d,]+) PUTs, ([\d,]+) HEADs and as many GETs; .* the same PUTs, ([\d,]+) HEADs and ([\d,]+) GETs"
    puts, *reads = (int(number.replace(",", "")) for number in re.search(told, PAGE).groups())
    assert puts == 5 * units
    assert reads == [MILLION, MILLION // 1000, MILLION // 1000]


def test_metrics_are_those_of_the_job():
    rows = {name: (label.strip("`"), text) for name, label, text in table("metrics table")}
    assert rows == {
        f"`ray_{PREFIX}{name}_total`": (label or "", description) for name, (description, label) in COUNTERS.items()
    }
