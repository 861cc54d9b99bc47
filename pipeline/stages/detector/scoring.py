"""Many videos by a detector: score tables in a folder, and the events of all of them beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.data.events import ANOMALY
from pipeline.progress import Progress, Say, silent
from pipeline.stages.detector.detector import Detector
from pipeline.stages.events.events import find_events, write_found
from pipeline.stages.events.videos import open_scores
from pipeline.stages.scoring.score_loose import ScoreReport, score_sources
from pipeline.stages.scoring.sources import Video

__all__ = ["score_with_detector"]


def score_with_detector(
    detector: Detector,
    videos: Sequence[Video],
    folder: Path,
    *,
    as_csv: bool = False,
    progress: Progress | None = None,
    say: Say = silent,
) -> ScoreReport:
    """Score videos as `score_sources` does, and write the events of all tables of the folder by the detector's rules.

    Arguments and errors as there. events.parquet, events.csv, events.jsonl and facts.json are written again each time.
    """
    for note in detector.notes():
        say(f"warning: {note}")

    def list_events() -> None:
        if not (folder / "index.json").is_file():
            return  # nothing has been scored yet
        point = detector.document.operating_point
        found = find_events(open_scores(folder, detector.classes), detector.rules, progress, point.notes)
        facts = {"detector": {"name": detector.document.name, "seal": detector.seal}}
        write_found(folder, found, facts)
        general = found.counts()[ANOMALY]
        several = len(found.events) - general
        say(
            f"{general} event(s) of anomaly in general and {several} of classes, in {found.videos} video(s) of {folder}"
        )

    scorer = detector.scorer()
    return score_sources(scorer, videos, folder, as_csv=as_csv, progress=progress, say=say, done=list_events)
