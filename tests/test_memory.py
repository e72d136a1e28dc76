"""Memory stays within bounds that the page on clusters states, whatever comes: measured, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "memory.py"
BYTES_A_PIXEL = 25  # of the largest image that is allowed: three are its pixels
UNIT_COPIES = 4  # of a unit's bytes in one process, those it shares with the object store left out


def measured(*arguments):
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *arguments], capture_output=True, text=True, timeout=1000, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(1200)
def test_sixty_megapixels_with_hundreds_of_masks():
    found = measured("image", "--megapixels", "60", "--masks", "200")
    assert found["status"] == "ok" and found["masks"] >= 100, found
    assert found["peak_above_models_mib"] * 2**20 < BYTES_A_PIXEL * found["megapixels"] * 1e6, found


@pytest.mark.timeout(1200)
def test_a_unit_four_times_the_object_store():
    found = measured("unit", "--mebibytes", "320")
    assert (found["units"], found["unfinished_units"], found["images"]) == (1, 0, 16), found
    assert found["peak_store_mib"] <= found["store_mib"], found
    assert 0 < found["peak_worker_private_mib"] < UNIT_COPIES * found["unit_mib"], found
