"""The hit rate of spatial reasoning where it is defined, and where it is not."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import entry

from pipeline.config import parse_experiment
from pipeline.data.manifest import Manifest, VideoEntry
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


@pytest.mark.parametrize(
    ("preprocess", "cell"),
    [
        ({}, None),  # the crop shows 112 of 224 pixels to either side of the middle
        ({"fit": "stretch", "height": 224, "width": 384}, 3 * 12 + 10),
        ({"fit": "letterbox", "height": 384, "width": 384}, 6 * 12 + 10),
    ],
)
def test_the_cell_of_an_anomaly_at_the_side(nano, tmp_path, preprocess, cell):
    """A box in the middle of the height of 448 x 256 pixels, 7/8 to the right."""
    (tmp_path / "boxes.csv").write_text("video_id,frame,label,x0,y0,x1,y1\na,3,Fighting,372,118,412,138\n")
    video = VideoEntry("a", "a.mp4", "test", ("Fighting",), None, 448, 256, 10.0, 9, 1)
    experiment = parse_experiment(nano | {"preprocess": preprocess})
    found = module.anomaly_cells(experiment, Manifest(tmp_path, ("Fighting",), (video,), ()))
    assert found == ({} if cell is None else {("a", 3): {cell}})
