"""The choice of thresholds, on scores whose best thresholds are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.config import Events
from pipeline.data.events import ANOMALY
from pipeline.errors import PipelineError
from pipeline.stages.events.choosing import choose
from pipeline.stages.events.operating_point import read_thresholds, write_operating_point
from pipeline.stages.events.videos import ScoredVideo

HOUR = 3600
CLASSES = ("Fight", "Fire")


def video(
    video_id: str, fight: dict[int, float], fire: dict[int, float] | None = None, seconds: int = HOUR
) -> ScoredVideo:
    """A frame a second, scores of 0 but at some seconds."""
    scores = np.zeros((seconds, 2))
    for column, peaks in enumerate((fight, fire or {})):
        for second, score in peaks.items():
            scores[second, column] = score
    return ScoredVideo(video_id, "", scores.max(axis=1), scores, np.arange(seconds, dtype=float))


def chosen(videos: list[ScoredVideo], labels: dict[str, tuple[str, ...]], **settings):
    return choose(lambda: videos, labels, CLASSES, Events(lower_share=0.5, merge_gap_s=1.0, **settings))


NORMAL = video("n", {100: 0.2, 200: 0.4, 300: 0.6}, {400: 0.1})
FIGHT = video("f", {50: 0.8})
LABELS = {"n": (), "f": ("Fight",)}


@pytest.mark.parametrize(
    ("accepted", "events", "threshold"),
    [(0.0, 0, 0.7), (1.0, 1, 0.5), (2.5, 2, 0.3), (3.0, 3, 0.1)],
)
def test_the_lowest_threshold_within_the_accepted_load_is_chosen(accepted, events, threshold):
    choice = chosen([NORMAL, FIGHT], LABELS, false_alarms_per_hour=accepted).choices["Fight"]
    assert choice.threshold == pytest.approx(threshold)  # half-way between two peaks: 0.6 and 0.8, 0.4 and 0.6, ...
    assert (choice.point.events, choice.point.false_alarms_per_hour) == (events, pytest.approx(events))
    assert (choice.chosen_on, choice.within, choice.point.hit_share, choice.anomalous_videos) == (
        "validation",
        True,
        1.0,
        1,
    )


def test_classes_and_anomaly_in_general_have_thresholds_of_their_own():
    found = chosen([NORMAL, FIGHT], LABELS, false_alarms_per_hour=0.0)
    thresholds = {name: choice.threshold for name, choice in found.choices.items()}
    assert thresholds == pytest.approx({ANOMALY: 0.7, "Fight": 0.7, "Fire": 0.5})
    assert found.choices["Fire"].point.hit_share is None
    assert any(note.startswith("Fire: no validation video shows it") for note in found.notes)


def test_a_class_can_accept_another_load_or_have_a_fixed_threshold():
    by_class = {"Fight": {"false_alarms_per_hour": 3.0}, "Fire": {"upper": 0.05}}
    found = chosen([NORMAL, FIGHT], LABELS, false_alarms_per_hour=0.0, by_class=by_class).choices
    assert found["Fight"].threshold == pytest.approx(0.1)
    assert (found["Fire"].threshold, found["Fire"].chosen_on, found["Fire"].within) == (0.05, "configuration", False)
    assert found["Fire"].point.events == 1


def test_a_threshold_so_low_that_events_grow_together_is_not_chosen():
    choice = chosen([NORMAL, FIGHT], LABELS, false_alarms_per_hour=50.0).choices["Fight"]
    assert (choice.threshold, choice.point.events) == (pytest.approx(0.1), 3)


def test_a_very_low_threshold_is_not_chosen_because_a_whole_video_is_one_event():
    noisy = ScoredVideo("n", "", *_both(np.tile([0.4, 0.4, 0.4, 0.25], HOUR // 4)), np.arange(HOUR, dtype=float))
    found = choose(lambda: [noisy, FIGHT], LABELS, CLASSES, Events(upper=0.2, lower_share=1.0, merge_gap_s=0.0))
    assert [(p.threshold, p.events) for p in found.choices["Fight"].curve][-2:] == [(0.4, HOUR // 4), (0.2, 1)]
    assert found.choices["Fight"].threshold == pytest.approx(0.6)


def _both(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scores, np.stack([scores, np.zeros_like(scores)], axis=1)


def test_a_load_that_the_footage_cannot_show_is_said_with_what_it_can_show():
    half = video("n", {100: 0.6}, seconds=HOUR // 2)
    found = chosen([half, FIGHT], LABELS, false_alarms_per_hour=1.0)
    assert found.smallest_per_hour == pytest.approx(2.0)
    assert found.choices["Fight"].point.events == 0
    assert "a single one there is already 2 per hour" in found.notes[0]
    # exp(-0.5 h x 7.38 per hour) = 0.025: a higher load would have shown at least one event in 97.5 of 100 cases
    assert (found.choices["Fight"].low, found.choices["Fight"].high) == pytest.approx((0.0, 7.378), abs=1e-3)
    assert "the true rate can be as high as 7.378 per hour (95 %)" in found.notes[1]


def test_normal_footage_that_reaches_one_is_said_to_be_above_the_accepted_load():
    found = chosen([video("n", {1: 1.0, 100: 1.0}), FIGHT], LABELS).choices["Fight"]
    assert (found.threshold, found.within, found.point.events) == (1.0, False, 2)
    assert found.reason == "more false alarms than accepted at the highest threshold that can be set"


def test_a_share_of_the_time_and_merged_alarms():
    normal = video("n", dict.fromkeys([*range(100, 190), 192], 0.9))
    [point] = [p for p in chosen([normal, FIGHT], LABELS).choices["Fight"].curve if p.threshold == 0.5]
    assert (point.events, point.alarm_share) == (2, pytest.approx(91 / HOUR))


def test_without_normal_footage_or_a_budget_the_configured_threshold_stays():
    nothing = chosen([FIGHT], {"f": ("Fight",)}, upper=0.6)
    assert {(c.threshold, c.chosen_on) for c in nothing.choices.values()} == {(0.6, "configuration")}
    assert "no validation video is normal" in nothing.notes[0]
    fixed = chosen([NORMAL, FIGHT], LABELS, upper=0.55, false_alarms_per_hour=None).choices["Fight"]
    assert (fixed.threshold, fixed.chosen_on, fixed.within, fixed.point.events) == (0.55, "configuration", None, 1)


def test_scores_that_are_not_finite_or_without_classes_are_refused():
    bad = video("n", {3: np.nan})
    with pytest.raises(PipelineError, match="n, anomaly, frame 3: expected a score from 0 to 1, got nan"):
        chosen([bad], {"n": ()})
    general = ScoredVideo("n", "", NORMAL.general, None, NORMAL.times_s)
    with pytest.raises(PipelineError, match="n: expected class scores, got none of Fight, Fire"):
        chosen([general], {"n": ()})


def test_many_peaks_are_tried_sparsely_and_the_load_is_still_kept():
    rng = np.random.default_rng(0)
    normal = video("n", dict(zip(range(0, HOUR, 4), rng.random(900) * 0.9, strict=True)))
    choice = chosen([normal, FIGHT], LABELS, false_alarms_per_hour=20.0).choices["Fight"]
    assert len(choice.curve) <= 121
    assert 17 <= choice.point.events <= 20


def test_what_is_written_is_read_and_names_all_that_it_rests_on(tmp_path):
    found = chosen([NORMAL, FIGHT], LABELS)
    write_operating_point(tmp_path, found, {"run": "gig"})
    thresholds, document = read_thresholds(tmp_path)
    assert thresholds == {name: choice.threshold for name, choice in found.choices.items()}
    assert read_thresholds(tmp_path / "operating_point.json") == (thresholds, document)
    assert (document["run"], document["normal_videos"], document["normal_hours"]) == ("gig", 1, 1.0)
    assert document["classes"]["Fight"]["curve"][0].keys() >= {"threshold", "false_alarms_per_hour", "hit_share"}
    (tmp_path / "other.json").write_text(json.dumps({"thresholds": 3}))
    with pytest.raises(PipelineError, match="other.json: not an operating point"):
        read_thresholds(tmp_path / "other.json")
