"""The metrics of where spatial reasoning looks: where they are defined, by hand, and where they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import entry

from pipeline.config import Evaluation, parse_experiment
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.metrics import LocalisationMetrics
from pipeline.metrics.spatial import SeenWindows
from pipeline.stages.evaluation.document import localisation_document
from pipeline.stages.evaluation.localisation import NoLocalisation, anomaly_cells, judge_localisation

CLASSES = ("Explosion", "Fighting", "Accident")


@pytest.fixture
def judged(nano, tmp_path):
    """Judge the windows [0, 4] and [4, 8] of one video of 64 x 64 pixels, of which a map has 2 x 2 cells."""
    nano["preprocess"] = {"short_side": 64, "crop": 64}
    nano["head"]["k"], nano["runs"] = 1, {"gig": {}}

    def judge(boxes: str, positions: list[list[int]], relations: list[list[float]], **changes: dict):
        experiment = parse_experiment(nano | changes)
        (tmp_path / "windows").mkdir()
        table = {"first_frame": [0, 4], "last_frame": [4, 8], "positions": positions, "relations": relations}
        pq.write_table(pa.table(table), tmp_path / "windows" / "a.parquet")
        (tmp_path / "boxes.csv").write_text(f"video_id,frame,label,x0,y0,x1,y1\n{boxes}")
        video = replace(entry("a", "test", "Fighting"), width=64, height=64)
        manifest = Manifest(tmp_path, CLASSES, (video,), ())
        metrics = judge_localisation(experiment, manifest, tmp_path)
        return localisation_document(metrics, 1, experiment.evaluation, places=True), anomaly_cells(
            experiment, manifest
        )

    return judge


def test_windows_are_judged_by_the_boxes_of_their_middle_frames(judged):
    # frame 2: a box in the cell 1; frame 6: one of the whole left half, another class; frame 3 is the middle of none
    boxes = "a,2,Fighting,40,0,56,32\na,6,Accident,0,0,32,64\na,3,Fighting,0,0,9,9\nb,2,Fighting,0,0,9,9\n"
    found, cells = judged(boxes, [[1], [1]], [[0.2, 0.6, 0.2, 0.0], [0.1, 0.3, 0.3, 0.3]])
    assert cells == {("a", 2): {1}, ("a", 6): {2}, ("a", 3): {0}}
    values = {name: value["value"] for name, value in found["localisation"]["metrics"].items()}
    assert values == pytest.approx(
        {
            "hit_rate": 0.5,
            "hit_rate_chance": 0.25,
            "relation_energy": (0.6 * 0.5 + 0.4) / 2,
            "relation_energy_chance": (1 / 8 + 1 / 2) / 2,
            "relation_energy_ratio": 0.35 / 0.3125,
        }
    )
    assert {name: found[name] for name in ("hit_rate", "hit_rate_windows")} == {"hit_rate": 0.5, "hit_rate_windows": 2}
    assert found["relation_energy"] == pytest.approx(0.35)
    fights, explosions = (found["localisation"]["classes"][name] for name in ("Fighting", "Explosion"))
    assert (fights["hit_rate_windows"], fights["metrics"]["hit_rate"]["value"]) == (1, 1.0)
    assert fights["metrics"]["relation_energy_ratio"]["value"] == pytest.approx(0.3 / (1 / 8))
    assert "reason" in explosions["metrics"]["hit_rate"]


def test_an_anomaly_whose_middle_is_outside_counts_for_the_energy_alone(judged):
    found, _ = judged("a,2,Fighting,-60,0,20,32\na,6,Fighting,70,0,90,32\n", [[1], [1]], [[1.0] * 4, [1.0] * 4])
    assert (found["hit_rate"], found["hit_rate_windows"]) == (None, 0)
    assert found["localisation"]["relation_energy_windows"] == 1
    assert found["relation_energy"] == pytest.approx(found["relation_energy_chance"])


def test_padding_is_no_part_of_the_picture(judged, nano):
    tall = {"preprocess": {"fit": "letterbox", "height": 64, "width": 128}}  # 64 x 64 in the middle of 2 x 4 cells
    relations = [0.0, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5, 0.0]
    found, _ = judged("a,2,Fighting,0,0,32,32\n", [[1], [1]], [relations] * 2, **tall)
    assert (found["hit_rate"], found["hit_rate_chance"]) == (1.0, 0.25)
    assert (found["relation_energy"], found["relation_energy_chance"]) == (0.25, 0.25)


def test_windows_whose_maps_have_no_energy_are_counted(judged):
    found, _ = judged("a,2,Fighting,0,0,32,32\n", [[1], [1]], [[0.0, -1.0, 0.0, 0.0], [1.0] * 4])
    own = found["localisation"]
    assert (own["hit_rate_windows"], own["relation_energy_windows"], own["windows_without_energy"]) == (1, 0, 1)
    assert own["metrics"]["relation_energy"]["value"] is None


def test_why_there_is_none_is_said(judged):
    with pytest.raises(NoLocalisation, match="chooses no cells"):
        judged("", [[], []], [[], []])
    with pytest.raises(NoLocalisation, match="does not say where in the picture"):
        judge_localisation(parse_experiment(CSV), None, None)
    found = localisation_document("because", 3, parse_experiment(CSV).evaluation, places=True)
    assert (found["hit_rate"], found["localisation"]) == (None, {"reason": "because"})


CSV = {
    "experiment": "mine",
    "dataset": {"adapter": "csv", "name": "mine", "root": "mine", "classes": ["Fighting"]},
    "backbone": {"name": "tpn_tiny", "weights": "bundled"},
}


def test_a_hit_in_every_window_is_not_a_rate_of_surely_1():
    window = SeenWindows(*(np.array([value]) for value in (1.0, 0.25, 0.5, 0.1)))
    metrics = LocalisationMetrics(dict.fromkeys("abc", window))
    found = localisation_document(metrics, 3, Evaluation(resamples=50), places=True)["localisation"]["metrics"]
    assert (found["hit_rate"]["low"], found["hit_rate"]["high"]) == (pytest.approx(0.2924, abs=1e-4), 1)


def test_features_from_elsewhere_have_no_places(nano):
    experiment = parse_experiment(nano | {"features": {"train": "a", "test": "b"}})
    with pytest.raises(NoLocalisation, match="features are imported"):
        judge_localisation(experiment, None, None)


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
    found = anomaly_cells(experiment, Manifest(tmp_path, ("Fighting",), (video,), ()))
    assert found == ({} if cell is None else {("a", 3): {cell}})
