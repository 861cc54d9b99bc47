"""What all complete days have dealt with, by content and by place."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.stages.nightly.dataset import read_files
from pipeline.stages.nightly.days import read_days
from pipeline.stages.nightly.looks import EarlierLook

__all__ = ["Ledger", "Scored"]


@dataclass(frozen=True)
class Scored:
    """Where the scores of a content are.

    Attributes:
        date, video_id: the day and the name under which it was scored.
        path: where a file with this content was seen last.
    """

    date: str
    video_id: str
    path: str


@dataclass
class Ledger:
    """The memory of the nights, read from the tables `files` and the records of the days.

    Attributes:
        scored: SHA-256 -> where its scores are.
        places: path -> version, state and name of the file that was last seen there.
        waiting: path -> how a file was seen that was left by the run that finished last.
        zone: the time zone of the days of that run; "" before the first one.
    """

    scored: dict[str, Scored] = field(default_factory=dict)
    places: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    waiting: dict[str, EarlierLook] = field(default_factory=dict)
    zone: str = ""

    @classmethod
    def load(cls, folder: Path, now: str) -> Ledger:
        """Read the days of a dataset, in the order in which they were finished.

        Args:
            folder: of the dataset.
            now: ISO 8601, UTC. A day that was finished later, by a clock that was wrong, comes before the others.

        Raises:
            OutputError: a record cannot be read.
        """
        days = sorted(read_days(folder), key=lambda day: (day.finished <= now, day.finished, day.date))
        found = cls(zone=days[-1].zone if days else "")
        for date, row in read_files(folder, [day.date for day in days]):
            found._enter(date, row)
        for left in days[-1].left if days else ():
            found.waiting[left.path] = EarlierLook(left.version, left.bytes, left.first_s)
        return found

    def unchanged(self, place: str, version: str) -> bool:
        """Whether the file at a place is the one with which an earlier day dealt."""
        known = self.places.get(place)
        return known is not None and version != "" and known[0] == version

    def failed(self, place: str) -> bool:
        """Whether the file that was last seen at a place is one that could not be scored."""
        known = self.places.get(place)
        return known is not None and known[1] == "failed"

    def _enter(self, date: datetime.date, row: dict[str, str]) -> None:
        self.places[row["path"]] = row["version"], row["state"], row["video_id"]
        if row["scored_date"] and (row["state"] != "copy" or row["sha256"] not in self.scored):
            self.scored[row["sha256"]] = Scored(row["scored_date"], row["scored_id"], row["path"])
