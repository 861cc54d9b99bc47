"""The outputs of an experiment that the page is made of, read a video at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.events import Events
from pipeline.data.manifest import Manifest
from pipeline.data.tables import read_cell
from pipeline.errors import LengthMismatch, PipelineError
from pipeline.metrics.hysteresis import EventRule
from pipeline.remote import AnyPath
from pipeline.stages.report.events import rules_of, without_seconds
from pipeline.stages.report.wording import Wording

__all__ = ["Results", "RunResults", "VideoScores"]

CURVE_POINTS = 400


@dataclass(frozen=True)
class VideoScores:
    """Scores of one video of N frames.

    Attributes:
        general: (N,) float64 in [0, 1], how anomalous a frame is.
        classwise: (N, C) float64 in [0, 1]; None where the tables hold no class scores.
        times_s: (N,) float64, presentation times; the numbers of the frames where nothing tells times.
    """

    general: np.ndarray
    classwise: np.ndarray | None
    times_s: np.ndarray

    def __getitem__(self, part: slice) -> VideoScores:
        """The scores of some frames."""
        several = None if self.classwise is None else self.classwise[part]
        return VideoScores(self.general[part], several, self.times_s[part])


@dataclass(frozen=True)
class RunResults:
    """One line of the summary, or the scores of another system.

    Attributes:
        name: of the run.
        stage: frozen or finetuned; "" for scores of which that is not known.
        scores: folder of the score tables.
        evaluation: folder of the evaluation; None where there is no ground truth.
        origin: where the scores were read from, as the page says it; None for the name of their folder.
        reach: the lowest and the highest score of all videos, where these are not from 0 to 1: the page shows scores
            from 0 for the lowest to 1 for the highest.
    """

    name: str
    stage: str
    scores: Path
    evaluation: Path | None
    origin: str | None = None
    reach: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """What the page calls it."""
        return f"{self.name}, fine-tuned" if self.stage == "finetuned" else self.name

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json; nothing without ground truth."""
        return _read_json(self.evaluation / "metrics.json") if self.evaluation else {}

    @cached_property
    def index(self) -> dict[str, Any]:
        """The content of the score tables' index.json."""
        return _read_json(self.scores / "index.json")

    @property
    def recipe(self) -> str:
        """In a line: how its scores came to be, and where they lie."""
        told = [f"head {self.metrics['head']}"] if "head" in self.metrics else []
        told += [f"backbone {self.metrics['backbone']}"] if "backbone" in self.metrics else []
        told += [self.stage] if self.stage else []
        told += [f"configuration {self.metrics.get('config_digest', 'not known')}"] if self.metrics else []
        return ", ".join([*told, f"scores in {self.origin or self.scores.name}"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the tables hold scores of."""
        return tuple(self.index["classes"])

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of per_class.csv or per_video.csv; none without ground truth."""
        if self.evaluation is None:
            return []
        with (self.evaluation / name).open(newline="", encoding="utf-8") as stream:
            return [{key: read_cell(cell) for key, cell in row.items()} for row in csv.DictReader(stream)]

    def read(self, video_id: str, classes: Sequence[str]) -> VideoScores:
        """The score table of one video. Raises LengthMismatch or PipelineError."""
        facts = self.index["videos"].get(video_id)
        if facts is None:
            raise PipelineError(f"{video_id}: no scores of run {self.title} in {self.scores}")
        path = self.scores / "frames" / facts["file"]
        try:
            table = pq.read_table(path)
            if table.num_rows != facts["decoded_frames"]:
                raise LengthMismatch(
                    f"{video_id}: {table.num_rows} scores for {facts['decoded_frames']} frames ({path})"
                )
            held = classes if self.classes else ()
            times, *columns = [table[name].to_numpy().astype(np.float64) for name in ("time_s", "score", *held)]
        except (OSError, KeyError, pa.ArrowException) as error:
            raise PipelineError(f"{video_id}: {path} cannot be read as a score table ({error})") from error
        if self.reach:
            low, high = self.reach
            columns = [(column - low) / ((high - low) or 1.0) for column in columns]
        return VideoScores(columns[0], np.column_stack(columns[1:]) if held else None, times)

    def lost_frames(self, video_id: str) -> list[list[int]]:
        """Ranges (first, one after the last) of frames that could not be decoded."""
        facts = self.index["videos"][video_id]
        found: list[list[int]] = facts.get("lost_frames") or (facts.get("damage") or {}).get("lost", [])
        return found

    def curve(self) -> np.ndarray:
        """Points of the curves of anomaly in general, at most `CURVE_POINTS`, evenly spaced along them.

        Returns:
            (n, 3) float64: true-positive rate, false-positive rate, precision; (0, 3) where these are not defined.
        """
        if self.evaluation is None:
            return np.zeros((0, 3))
        columns = ["label", "true_positive_rate", "false_positive_rate", "precision"]
        parts = []
        for batch in pq.ParquetFile(self.evaluation / "curves.parquet").iter_batches(columns=columns):
            marks = np.asarray(batch["label"]) == "anomaly"
            if not marks.any():
                break  # anomaly in general comes first
            parts.append(np.column_stack([batch[name].to_numpy()[marks] for name in columns[1:]]))
        if not parts:
            return np.zeros((0, 3))
        points = np.concatenate(parts)
        # Evenly along both axes, so that neither the steep nor the flat part loses its shape.
        walked = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(points, axis=0)).sum(axis=1))])
        wanted = np.searchsorted(walked, np.linspace(0, walked[-1], CURVE_POINTS))
        return points[np.unique(np.clip(wanted, 0, len(points) - 1))]

    def det(self) -> np.ndarray | None:
        """The detection error trade-off of events, (n, 2): false alarms per hour, miss rate; None without it."""
        path = self.evaluation / "det.parquet" if self.evaluation else None
        if path is None or not path.is_file():
            return None
        table = pq.read_table(path, columns=["most_false_alarms_per_hour", "miss_rate"])
        points = np.column_stack([column.to_numpy().astype(np.float64) for column in table.columns])
        return points[np.isfinite(points).all(axis=1)]


@dataclass(frozen=True)
class Results:
    """What a page is about.

    Attributes:
        experiment: name, the title of the page.
        digest: of the summary; "" for scores from elsewhere.
        dataset: name of the data set, and `adapter`.
        manifest: with its truth, without the videos in quarantine.
        runs: lines of the summary, at least one.
        quarantined: videos that could not be read, each with its reason.
        config: the experiment, or what is known of the settings, as YAML.
        events: its section of that name.
        inside: a folder that is moved together with the page's; videos in it are linked relatively.
        may_be_short: whether scores may end before their video does, as those of imported features.
        with_truth: whether the videos are annotated; without it the page shows what was found, and no metrics.
        timed: whether it is known when frames are shown; else all times are numbers of frames.
        by_rate: ids of the videos whose times are those of a frame rate and not of the file: no frame of them is found
            by its time.
        notes: what should be known of the scores, a sentence each.
    """

    experiment: str
    digest: str
    dataset: str
    adapter: str
    manifest: Manifest
    runs: tuple[RunResults, ...]
    quarantined: tuple[tuple[str, str], ...]
    config: str
    events: Events
    inside: Path
    may_be_short: bool = False
    with_truth: bool = True
    timed: bool = True
    by_rate: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @cached_property
    def rules(self) -> tuple[dict[str, EventRule], ...]:
        """Of each run, by which its events are found, by class and anomaly in general."""
        found = (rules_of(run.metrics, self.events, self.manifest.classes) for run in self.runs)
        return tuple(own if self.timed else without_seconds(own) for own in found)

    def read(self, run: RunResults, video_id: str) -> VideoScores:
        """The scores of one video by one run, at most as many as it has frames. Raises PipelineError."""
        scores, count = run.read(video_id, self.manifest.classes), None
        if not self.timed:
            scores = replace(scores, times_s=np.arange(len(scores.general), dtype=np.float64))
        if self.may_be_short:
            count = self.manifest.video(video_id).packets or None
        return scores[:count]

    @property
    def wording(self) -> Wording:
        """How times are said."""
        return Wording(self.timed)

    def video_path(self, video_id: str) -> AnyPath | None:
        """Where a video lies; None where nothing says so."""
        return self.manifest.video_path(video_id) if self.manifest.video(video_id).path else None

    def truth(self, video_id: str, frames: int) -> np.ndarray:
        """What is annotated, (frames, C) bool."""
        whole = max(frames, self.manifest.video(video_id).packets) if self.may_be_short else frames
        return self.manifest.frame_labels(video_id, whole)[:frames]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return document
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: cannot be read ({error})") from error
