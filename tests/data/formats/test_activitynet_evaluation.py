"""ActivityNet files in mmaction2's evaluation of temporal localisation: it finds what our own metrics find."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.data.events import Event
from pipeline.data.formats import activitynet
from pipeline.data.formats.facts import VideoFacts
from pipeline.metrics.temporal import IOUS, DetectionMetrics, propose, runs

FRAMES, FPS, CLASSES = 100, 10.0, ("Fighting", "Fire")
TRUE = {("v", 0): [(10, 30), (60, 80)], ("w", 0): [(0, 10)], ("w", 1): [(50, 70)]}
FOUND = {
    # The first is a hit and the second is false. The third overlaps a true interval by a third.
    ("v", 0): [(10, 30, 0.9), (40, 50, 0.7), (70, 90, 0.5)],
    ("v", 1): [(0, 5, 0.6)],
    ("w", 1): [(50, 62, 0.8)],
}


def event(video_id: str, class_number: int, start: int, end: int, score: float = 1.0) -> Event:
    return Event(video_id, "", CLASSES[class_number], start / FPS, end / FPS, start, end, start / FPS, score, score)


def test_mmaction2_finds_in_the_files_what_our_metrics_find_in_the_scores(tmp_path):
    """A hand-made case without a false detection before a hit of higher precision, where its interpolation of the
    precision changes nothing."""
    evaluation = pytest.importorskip("mmaction.evaluation.functional.eval_detection")
    scores = {video_id: np.zeros((FRAMES, 2)) for video_id in ("v", "w")}
    labels = {video_id: np.zeros((FRAMES, 2), bool) for video_id in ("v", "w")}
    for (video_id, number), found in FOUND.items():
        for start, end, score in found:
            scores[video_id][start:end, number] = score
    for (video_id, number), true in TRUE.items():
        for start, end in true:
            labels[video_id][start:end, number] = True
    ours = DetectionMetrics(scores, labels, CLASSES)(np.ones((2, 1)))

    detections, truth = [], []
    for video_id in ("v", "w"):
        for number in range(2):
            proposals = zip(*propose(scores[video_id][:, number]), strict=True)
            detections += [event(video_id, number, int(s), int(e), float(c)) for (s, e), c in proposals]
            truth += [event(video_id, number, int(s), int(e)) for s, e in runs(labels[video_id][:, number])]
    facts = {video_id: VideoFacts(f"{video_id}.mp4", FRAMES, FPS, 64, 48) for video_id in ("v", "w")}
    database = activitynet.truth(truth, facts)["database"]
    # Its ground truth is the database itself, with the `v_` that names of ActivityNet's files begin with.
    (tmp_path / "truth.json").write_text(json.dumps({f"v_{name}": entry for name, entry in database.items()}))
    (tmp_path / "results.json").write_text(json.dumps(activitynet.results(detections)))
    theirs, mean = evaluation.ActivityNetLocalization(
        str(tmp_path / "truth.json"), str(tmp_path / "results.json"), np.array(IOUS)
    ).evaluate()

    fighting = [1 / 3 + 1 / 3 * 2 / 3] * 3 + [1 / 3] * 2
    expected = [(ap + 1) / 2 for ap in fighting]  # every true interval of fire is found before anything false
    np.testing.assert_allclose(theirs, expected, rtol=1e-6)
    np.testing.assert_allclose([ours[f"detection_map_{least}"][0] for least in IOUS], expected, rtol=1e-6)
    assert mean == pytest.approx(ours["detection_map"][0])
