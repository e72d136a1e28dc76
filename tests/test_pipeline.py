"""Stages of the pipeline as functions, without Ray."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pyarrow as pa
import pytest
from sources.made_inputs import plan, small_image, write_parquet

from fastsam_batch.corpus.plan import PendingRow
from fastsam_batch.pipeline import Unfinished, fetch
from fastsam_batch.sources import open_source


def test_one_unit_of_a_run_that_cannot_be_fetched_stops_no_other(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fastsam_batch.outage.PAUSE_S", 0.001)
    held = [small_image(number) for number in range(8)]
    uris = [None] * 8
    held[5], uris[5] = None, "http://127.0.0.1:9/nobody-listens.png"
    write_parquet(tmp_path / "p.parquet", {"bytes": held, "uri": uris})
    source = open_source(str(tmp_path))
    rows = plan(source, unit_size=2)
    left = [PendingRow(row) for row in (rows[0], rows[2], rows[3])]
    batch = pa.table({"value": [pickle.dumps(left)]})
    found = [pickle.loads(table["value"][0].as_py()) for table in fetch(batch, SimpleNamespace(source=source))]
    assert [unit.unit_id for unit in found] == [row.unit_id for row in (rows[0], rows[2], rows[3])]
    assert isinstance(found[1], Unfinished) and found[1].stage == "fetch"
    assert [image.data for unit in (found[0], found[2]) for image in unit.images] == held[:2] + held[6:]
