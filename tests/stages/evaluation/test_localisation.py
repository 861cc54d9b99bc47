"""The hit rate of spatial reasoning where it is defined, and where it is not."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import entry

from pipeline.config import parse_experiment
from pipeline.data.manifest import Manifest
from pipeline.stages.evaluation import localisation as module


@pytest.mark.parametrize(
    ("cells", "rate", "windows"),
    [
        ({("a", 2): {1, 2}, ("a", 5): {9}}, 0.5, 2),
        ({("a", 5): {4}}, 1.0, 1),
        ({("a", 99): {4}}, None, 0),
        ({}, None, 0),
    ],
)
def test_windows_without_a_visible_anomaly_are_not_judged(nano, tmp_path, monkeypatch, cells, rate, windows):
    monkeypatch.setattr(module, "anomaly_cells", lambda experiment, manifest: cells)
    table = {"first_frame": [0, 3], "last_frame": [5, 8], "positions": [[1, 7], [4, 7]]}
    (tmp_path / "windows").mkdir()
    pq.write_table(pa.table(table), tmp_path / "windows" / "a.parquet")
    manifest = Manifest(tmp_path, ("Fighting",), (entry("a", "test", "Fighting"),), ())
    found = module.localisation(parse_experiment(nano), manifest, tmp_path)
    assert (found["hit_rate"], found["hit_rate_windows"]) == (rate, windows)
    assert (found["hit_rate_chance"] is None) == (rate is None)
