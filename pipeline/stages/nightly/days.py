"""What a night is told, and the records of finished days.

A record is written last of its day, so that a day whose record is there is complete.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.data.events import ANOMALY
from pipeline.errors import OutputError
from pipeline.stages.common.outputs import whole_file

__all__ = ["Day", "Left", "Night", "complete_dates", "day_path", "read_day", "read_days", "write_day"]

FORMAT = 1
SETTLE_S = 60.0
TUPLES = ("inbox", "still_failing", "unreachable", "passed_over_first", "warnings")


@dataclass(frozen=True)
class Left:
    """A file that was left for a later run.

    Attributes:
        video_id: the name that its table would have.
        path: where it lies.
        reason: why, in words.
        version, bytes, first_s: how it was seen, and since when it is so; see `EarlierLook`.
        problem: whether a person should look after it; else it only waits.
    """

    video_id: str
    path: str
    reason: str
    version: str
    bytes: int | None
    first_s: float
    problem: bool = False


@dataclass(frozen=True)
class Day:
    """What the run of a day did.

    Attributes:
        date: which day.
        detector: name and seal.
        inbox: what was searched, without passwords.
        zone: the time zone of days.
        settle_s: for how long a file must not have changed.
        started, finished: ISO 8601, UTC.
        seen: files in the inbox.
        unchanged: those that an earlier day dealt with, and that have not changed since.
        scored, moved, copies: files that were scored; whose content was scored before, under another name or another
            time, and which lie there no more, or still do.
        failed: video id -> why it could not be scored; in quarantine.
        still_failing: unchanged files that are in quarantine since an earlier day.
        left: files for a later run.
        later: files that belong to a later day.
        unreachable: what could not be looked at, one sentence each.
        passed_over, passed_over_first: how much lies there that is no video or hidden, and the first of it.
        events: by class and for anomaly in general.
        hours: length of the scored videos.
        warnings: why scores mean nothing for real videos, and other things to know.
    """

    date: datetime.date
    detector: Mapping[str, str]
    inbox: tuple[str, ...]
    zone: str
    settle_s: float
    started: str
    finished: str
    seen: int
    unchanged: int
    scored: int
    moved: int
    copies: int
    failed: Mapping[str, str]
    still_failing: tuple[str, ...]
    left: tuple[Left, ...]
    later: int
    unreachable: tuple[str, ...]
    passed_over: int
    passed_over_first: tuple[str, ...]
    events: Mapping[str, int]
    hours: float
    warnings: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        """What a person should look after, besides the files in quarantine."""
        return [*self.unreachable, *(f"{left.video_id}: {left.reason}" for left in self.left if left.problem)]

    def summary(self) -> list[str]:
        """In words, for a terminal."""
        lines = [
            f"{self.date}: {self.scored} scored, {self.moved} moved, {self.copies} copies, "
            f"{len(self.failed)} could not be scored, {len(self.left)} left for a later run, "
            f"{self.later} of later days, {self.unchanged} unchanged",
            f"{sum(self.events.values())} event(s), {self.events.get(ANOMALY, 0)} of them of anomaly in general",
        ]
        if self.still_failing:
            lines.append(f"in quarantine since earlier days: {', '.join(self.still_failing)}")
        return lines


def day_path(folder: Path, date: datetime.date) -> Path:
    """Where the record of a day lies."""
    return folder / "days" / f"{date.isoformat()}.json"


def complete_dates(folder: Path) -> list[datetime.date]:
    """The days that are complete, the first one first."""
    found = []
    for path in (folder / "days").glob("????-??-??.json"):
        try:
            found.append(datetime.date.fromisoformat(path.stem))
        except ValueError:
            continue
    return sorted(found)


def read_days(folder: Path) -> list[Day]:
    """All complete days, the first one first. Raises OutputError."""
    return [day for date in complete_dates(folder) if (day := read_day(folder, date)) is not None]


def read_day(folder: Path, date: datetime.date) -> Day | None:
    """The record of a day; None where it is not complete. Raises OutputError where it is no record."""
    path = day_path(folder, date)
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: not the record of a day ({error})") from error
    try:
        if document.pop("format") != FORMAT:
            raise ValueError(f"expected format {FORMAT}; a newer gig-vad has written it")
        left = tuple(Left(**entry) for entry in document.pop("left"))
        document |= {name: tuple(document[name]) for name in TUPLES}
        return Day(date=datetime.date.fromisoformat(document.pop("date")), left=left, **document)
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{path}: not the record of a day ({error!r})") from error


def write_day(folder: Path, day: Day) -> None:
    """Write the record of a day, which makes it complete."""
    path = day_path(folder, day.date)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"format": FORMAT, **asdict(day), "date": day.date.isoformat()}
    with whole_file(path) as partial:
        partial.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Night:
    """What a night is told.

    Attributes:
        date: the day.
        inbox: folders, files, URLs and lists, as of `find_videos`.
        folder: of the dataset.
        settle_s: for how long nothing of a file must have changed before it is scored.
        zone: the time zone of days, such as Europe/Berlin.
        now_s: gives the time, seconds since 1970.
    """

    date: datetime.date
    inbox: tuple[str, ...]
    folder: Path
    settle_s: float = SETTLE_S
    zone: str = "UTC"
    now_s: Callable[[], float] = time.time
