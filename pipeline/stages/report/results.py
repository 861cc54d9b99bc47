"""The outputs of an experiment that the page is made of, read a video at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
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
from pipeline.stages.report.events import rules_of

__all__ = ["Results", "RunResults", "VideoScores"]

CURVE_POINTS = 400


@dataclass(frozen=True)
class VideoScores:
    """Scores of one video of N frames.

    Attributes:
        general: (N,) float64 in [0, 1], how anomalous a frame is.
        classwise: (N, C) float64 in [0, 1].
        times_s: (N,) float64, presentation times.
    """

    general: np.ndarray
    classwise: np.ndarray
    times_s: np.ndarray


@dataclass(frozen=True)
class RunResults:
    """One line of the summary.

    Attributes:
        name: of the run.
        stage: frozen or finetuned.
        scores: folder of the score tables.
        evaluation: folder of the evaluation.
    """

    name: str
    stage: str
    scores: Path
    evaluation: Path

    @property
    def title(self) -> str:
        """What the page calls it."""
        return self.name if self.stage == "frozen" else f"{self.name}, fine-tuned"

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return _read_json(self.evaluation / "metrics.json")

    @cached_property
    def index(self) -> dict[str, Any]:
        """The content of the score tables' index.json."""
        return _read_json(self.scores / "index.json")

    @property
    def recipe(self) -> str:
        """In a line: how its scores came to be, and where they lie."""
        told = [f"head {self.metrics['head']}"] if "head" in self.metrics else []
        told += [f"backbone {self.metrics['backbone']}"] if "backbone" in self.metrics else []
        digest = self.metrics.get("config_digest", "not known")
        return ", ".join([*told, self.stage, f"configuration {digest}", f"scores in {self.scores.name}"])

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of per_class.csv or per_video.csv."""
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
            columns = [table[name].to_numpy().astype(np.float64) for name in ("score", "time_s", *classes)]
        except (OSError, KeyError, pa.ArrowException) as error:
            raise PipelineError(f"{video_id}: {path} cannot be read as a score table ({error})") from error
        return VideoScores(columns[0], np.column_stack(columns[2:]), columns[1])

    def lost_frames(self, video_id: str) -> list[list[int]]:
        """Ranges (first, one after the last) of frames that could not be decoded."""
        found: list[list[int]] = self.index["videos"][video_id].get("lost_frames", [])
        return found

    def curve(self) -> np.ndarray:
        """Points of the curves of anomaly in general, at most `CURVE_POINTS`, evenly spaced along them.

        Returns:
            (n, 3) float64: true-positive rate, false-positive rate, precision; (0, 3) where these are not defined.
        """
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
        path = self.evaluation / "det.parquet"
        if not path.is_file():
            return None
        table = pq.read_table(path, columns=["most_false_alarms_per_hour", "miss_rate"])
        points = np.column_stack([column.to_numpy().astype(np.float64) for column in table.columns])
        return points[np.isfinite(points).all(axis=1)]


@dataclass(frozen=True)
class Results:
    """What a page is about.

    Attributes:
        experiment: name.
        digest: of the summary.
        dataset: name of the data set, and `adapter`.
        manifest: with its truth, without the videos in quarantine.
        runs: lines of the summary, at least one.
        quarantined: videos that could not be read, each with its reason.
        config: the experiment as YAML.
        events: its section of that name.
        inside: a folder that is moved together with the page's; videos in it are linked relatively.
        may_be_short: whether scores may end before their video does, as those of imported features.
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

    @cached_property
    def rules(self) -> tuple[dict[str, EventRule], ...]:
        """Of each run, by which its events are found, by class and anomaly in general."""
        return tuple(rules_of(run.metrics, self.events, self.manifest.classes) for run in self.runs)

    def read(self, run: RunResults, video_id: str) -> VideoScores:
        """The scores of one video by one run, at most as many as it has frames. Raises PipelineError."""
        scores, count = run.read(video_id, self.manifest.classes), None
        if self.may_be_short:
            count = self.manifest.video(video_id).packets or None
        return VideoScores(scores.general[:count], scores.classwise[:count], scores.times_s[:count])

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
