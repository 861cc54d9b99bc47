"""One video as all runs see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.events import Event
from pipeline.data.manifest import VideoEntry
from pipeline.errors import LengthMismatch
from pipeline.metrics.hysteresis import frame_ends
from pipeline.metrics.temporal import runs as maximal_runs
from pipeline.stages.events.detect import events_of_video
from pipeline.stages.report.judging import Highlight, Verdict, judge
from pipeline.stages.report.results import Results, VideoScores

__all__ = ["Judged", "judge_video", "telling_frames"]

PICTURES_SHOWN = 6


@dataclass(frozen=True)
class Judged:
    """One video as all runs see it.

    Attributes:
        entry: of the manifest.
        truth: (N, C) bool, what is annotated.
        ends_s: (N,) float64, when each frame ends.
        duration_s: seconds.
        scores: of each run; its times are those of the frames.
        events: of each run, of anomaly in general and of the classes.
        verdicts: of each run.
        lost: ranges of frames that could not be decoded.
    """

    entry: VideoEntry
    truth: np.ndarray
    ends_s: np.ndarray
    duration_s: float
    scores: tuple[VideoScores, ...]
    events: tuple[list[Event], ...]
    verdicts: tuple[Verdict, ...]
    lost: list[list[int]]

    @property
    def lost_frames(self) -> int:
        """How many frames could not be decoded."""
        return sum(stop - start for start, stop in self.lost)

    @property
    def anomalous(self) -> np.ndarray:
        """(N,) bool, whether anything is annotated."""
        return np.asarray(self.truth.any(axis=1))

    @property
    def spans_s(self) -> list[list[float]]:
        """Annotated intervals, whatever their class, in seconds."""
        return self.seconds(self.anomalous)

    def seconds(self, marks: np.ndarray) -> list[list[float]]:
        """The maximal runs of marked frames, (N,) bool, as seconds."""
        times, ends = self.scores[0].times_s, self.ends_s
        return [[round(float(times[a]), 2), round(float(ends[b - 1]), 2)] for a, b in maximal_runs(marks).tolist()]


def judge_video(results: Results, entry: VideoEntry) -> Judged:
    """Read a video's scores of all runs, find its events and put them beside what is annotated.

    Args:
        results: what the report is about.
        entry: the video.

    Raises:
        LengthMismatch: the runs have different numbers of scores.
        PipelineError: a table cannot be read, or holds scores in which no event can be found.
    """
    classes = results.manifest.classes
    scores = tuple(results.read(run, entry.video_id) for run in results.runs)
    if results.may_be_short:
        shortest = min(len(one.times_s) for one in scores)
        scores = tuple(one[:shortest] for one in scores)
    times = scores[0].times_s
    ends = frame_ends(times)
    if other := [run.title for run, one in zip(results.runs, scores, strict=True) if len(one.times_s) != len(times)]:
        raise LengthMismatch(
            f"{entry.video_id}: expected {len(times)} scores as of {results.runs[0].title}, got others of {other[0]}"
        )
    truth = results.truth(entry.video_id, len(times))
    events, verdicts = [], []
    for one, rules in zip(scores, results.rules, strict=True):
        found = events_of_video(
            entry.video_id, entry.source or "", classes, one.general, one.classwise, one.times_s, rules
        )
        events.append(found)
        verdicts.append(judge(entry.video_id, one.general, times, ends, np.asarray(truth.any(axis=1)), found))
    duration = max(float(ends[-1] - times[0]), 0.001)
    lost = results.runs[0].lost_frames(entry.video_id)
    return Judged(entry, truth, ends, duration, scores, tuple(events), tuple(verdicts), lost)


def telling_frames(judged: Judged) -> list[Highlight]:
    """The moments whose pictures the page shows, at most `PICTURES_SHOWN`, in order of time.

    They are the highest scores of false alarms, hits and misses, those of the first run before those of others, and at
    least a second apart. A video without any has the moment of its highest score.
    """
    moments = [
        moment
        for verdict in judged.verdicts
        for moment in sorted((*verdict.false_alarms, *verdict.hits, *verdict.misses), key=lambda found: -found.score)
    ]
    if not moments:
        one = judged.scores[0]
        frame = int(np.argmax(one.general))
        time_s = float(one.times_s[frame])
        moments = [Highlight(judged.entry.video_id, frame, time_s, float(one.general[frame]), time_s, time_s)]
    chosen: list[Highlight] = []
    for moment in moments:
        if len(chosen) < PICTURES_SHOWN and all(abs(moment.time_s - other.time_s) >= 1 for other in chosen):
            chosen.append(moment)
    return sorted(chosen, key=lambda moment: moment.time_s)
