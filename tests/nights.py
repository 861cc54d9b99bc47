"""Nights of an inbox: a dataset, a clock, and a stand-in for the detector."""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.dataset as ds

from pipeline.data.decoding.decode import content_sha256
from pipeline.errors import DecodeError
from pipeline.metrics.hysteresis import EventRule
from pipeline.stages.nightly.days import complete_dates
from pipeline.stages.nightly.night import Night, score_new
from pipeline.stages.scoring.score_loose import ScoreReport, quarantine_of
from pipeline.stages.scoring.video_scores import VideoScores, write_scores

CLASSES = ("Fighting", "Robbery")
DAY_S = 86400
FIRST = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).date() - datetime.timedelta(days=20)
NOON = datetime.datetime.combine(FIRST, datetime.time(12), datetime.UTC).timestamp()
NOW_S = NOON + 21 * DAY_S + 3600  # tomorrow, whatever the hour is: later than the changes that file systems note


def iso(day: int) -> str:
    """A day, counted from the first one; today is 21."""
    return (FIRST + datetime.timedelta(days=day)).isoformat()


def scores_of(frames: int) -> VideoScores:
    """Scores that rise from 0 to 1, ten frames a second."""
    rising = np.linspace(0, 1, frames, dtype=np.float32)
    several = np.column_stack([rising, rising / 3])
    no_windows = np.zeros((1, 3), np.float32), np.zeros((1, 2), np.int64), np.zeros((1, 0), np.int64)
    return VideoScores(several, rising, np.arange(frames) / 10, *no_windows, np.zeros((1, 0), np.float32))


@dataclass
class Nights:
    """An inbox, a dataset, a clock, and a stand-in for the detector that notes what it scores."""

    folder: Path
    now_s: float = NOW_S
    scored: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    seal: str = "a" * 64

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def today(self) -> int:
        """The number of the day that it is by the clock."""
        return (datetime.datetime.fromtimestamp(self.now_s, datetime.UTC).date() - FIRST).days

    def put(self, name: str, content: str, day: int = 0) -> Path:
        """A file that was last changed at noon of a day, counted from the first one."""
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (NOON + day * DAY_S,) * 2)
        return path

    def run(self, day: int = 0, **changes: object):
        """The run of a day, counted from the first one."""
        self.scored.clear()
        self.inbox.mkdir(exist_ok=True)
        rules = {name: EventRule(0.5, 0.4, 0.0, 0.0) for name in ("anomaly", *CLASSES)}
        made_with = {"detector": {"seal": self.seal}}
        about = {"classes": list(CLASSES), "detector": {"seal": self.seal}}
        detector = SimpleNamespace(
            classes=CLASSES,
            rules=rules,
            seal=self.seal,
            document=SimpleNamespace(name="night", warnings=("It has learnt nothing.",)),
            notes=list,
            scorer=lambda: SimpleNamespace(made_with=made_with, about=about),
        )
        date = FIRST + datetime.timedelta(days=day)
        night = Night(date, (str(self.inbox),), self.out, 60.0, now_s=lambda: self.now_s)
        return score_new(detector, replace(night, **changes), say=self.said.append)

    def names(self) -> dict[str, list[str]]:
        """The videos with scores, by day."""
        table = ds.dataset(self.out / "scores", partitioning="hive").to_table(columns=["date", "video_id"])
        found: dict[str, set[str]] = {date.isoformat(): set() for date in complete_dates(self.out)}
        for row in table.to_pylist():
            found[row["date"]].add(row["video_id"])
        return {date: sorted(names) for date, names in found.items()}

    def score(self, scorer, videos, folder, *, progress, say, known, stop_at: str | None = None) -> ScoreReport:
        """In place of scoring: as many frames as the content has letters; one that begins with `bad` cannot be read."""
        done, failed = [], {}
        for video in videos:
            path = folder / "frames" / f"{video.name.replace('/', '=2f')}.parquet"
            if video.name == stop_at:
                raise KeyboardInterrupt
            if video.file.read_text().startswith("bad"):
                error = DecodeError(f"{video.place}: no video")
                failed[video.name] = str(error)
                quarantine_of(folder).add(video.name, video.place, "test", error)
                continue
            if not path.exists():
                self.scored.append(video.name)
                scores = scores_of(len(video.file.read_text()))
                facts = {"source": {"sha256": content_sha256(video.file), "path": video.place}, "damage": None}
                write_scores(folder, video.name, scores, CLASSES, facts)
            done.append(path)
        return ScoreReport(tuple(done), tuple(self.scored), (), (), failed)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
