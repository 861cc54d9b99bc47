"""Which files of an inbox are to be scored for a day, which are known, and which are left for a later run."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from pipeline.data.decoding.decode import content_sha256
from pipeline.errors import DecodeError
from pipeline.progress import Progress
from pipeline.stages.nightly.dataset import File
from pipeline.stages.nightly.days import Left
from pipeline.stages.nightly.ledger import Ledger, Scored
from pipeline.stages.nightly.looks import EarlierLook, Look, day_of, first_seen_s, look_at, waiting_reason
from pipeline.stages.scoring.sources import LocalVideo, Video

__all__ = ["CHANGED", "NewFile", "Rules", "Sorted", "is_same", "known_file", "left_file", "sort_files", "told_file"]

LATER = "it belongs to a later day: its time says nothing, or lies in the future, and it was first seen after the day"
CHANGED = "it changed while it was read: still being written?"


@dataclass(frozen=True)
class Rules:
    """Which files belong to a day, and when they have settled.

    Attributes:
        date: the day.
        zone: the time zone of days.
        settle_s: for how long nothing of a file must have changed.
        now_s: gives the time, seconds since 1970.
    """

    date: datetime.date
    zone: ZoneInfo
    settle_s: float
    now_s: Callable[[], float]


@dataclass(frozen=True)
class NewFile:
    """A file to score.

    Attributes:
        video: the file.
        look: how it was seen before its content was read.
        sha256: of its content; None of a file that lies elsewhere, before it is copied here.
    """

    video: Video
    look: Look
    sha256: str | None


@dataclass
class Sorted:
    """What is to be done with the files of an inbox.

    Attributes:
        new: name -> a file to score.
        known: rows of files whose content was scored before, or is that of another new file.
        left: files for a later run.
        later: number of files that belong to a later day.
        unchanged: number of files with which an earlier day dealt.
        still_failing: names of those in quarantine.
        twins: new files with the content of one that is scored.
        recognised: the contents of `known`.
    """

    new: dict[str, NewFile] = field(default_factory=dict)
    known: list[File] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    later: int = 0
    unchanged: int = 0
    still_failing: list[str] = field(default_factory=list)
    twins: list[NewFile] = field(default_factory=list)
    recognised: set[str] = field(default_factory=set)


def sort_files(
    videos: Sequence[Video],
    ledger: Ledger,
    rules: Rules,
    in_quarantine: Callable[[str], bool],
    progress: Progress,
) -> Sorted:
    """Look at every file, and read those of this machine that are new or have changed.

    Args:
        videos: of the inbox, with different names.
        ledger: what earlier days have dealt with.
        rules: of the day.
        in_quarantine: whether a name is in quarantine; a file that is not any more is tried again.
        progress: told which file is read.
    """
    sorter = _Sorter(ledger, rules, in_quarantine, {video.place for video in videos})
    for number, video in enumerate(videos):
        progress(number, len(videos), f"looking at {video.name}")
        try:
            sorter.sort(video)
        except FileNotFoundError as error:
            dangling = isinstance(video, LocalVideo) and video.file.is_symlink()
            reason = "it is a link that leads nowhere" if dangling else f"it was gone before it was read ({error})"
            unseen = Look("", None, None, None)
            sorter.found.left.append(left_file(video, unseen, None, rules, reason, dangling))
        except OSError as error:
            reason = str(error) if isinstance(error, DecodeError) else f"cannot be read ({error.strerror or error})"
            sorter.found.left.append(left_file(video, Look("", None, None, None), None, rules, reason, True))
    return sorter.found


class _Sorter:
    def __init__(self, ledger: Ledger, rules: Rules, in_quarantine: Callable[[str], bool], places: set[str]) -> None:
        self.ledger, self.rules, self.in_quarantine, self.places = ledger, rules, in_quarantine, places
        self.found = Sorted()
        self.contents: set[str] = set()

    def sort(self, video: Video) -> None:
        """Find out what is to be done with a file. Raises OSError or DecodeError where it cannot be read."""
        look = look_at(video)
        if not _is_unicode(video):
            reason = "its name is not valid UTF-8: rename it"
            self.found.left.append(left_file(video, look, None, self.rules, reason, True))
        elif self._dealt_with(video, look):
            self.found.unchanged += 1
        elif not self._waits(video, look):
            self._read(video, look)

    def _dealt_with(self, video: Video, look: Look) -> bool:
        """Whether an earlier day did all that there is to do."""
        if not self.ledger.unchanged(video.place, look.version):
            return False
        if self.ledger.failed(video.place):
            if not self.in_quarantine(video.name):
                return False  # its record was cleared: it is tried again
            self.found.still_failing.append(video.name)
        return True

    def _waits(self, video: Video, look: Look) -> bool:
        """Whether a file is left for a later run."""
        before, now_s = self.ledger.waiting.get(video.place), self.rules.now_s()
        if day_of(look, before, now_s, self.rules.zone) > self.rules.date:
            self.found.later += 1
            if look.modified_s is None or look.modified_s > now_s:  # the next run must know since when it is here
                self.found.left.append(left_file(video, look, before, self.rules, LATER))
            return True
        reason = waiting_reason(look, before, now_s, self.rules.settle_s)
        if reason:
            self.found.left.append(left_file(video, look, before, self.rules, reason))
        return bool(reason)

    def _read(self, video: Video, look: Look) -> None:
        """Compare the content of a file of this machine with all that was scored."""
        if not isinstance(video, LocalVideo):
            self.found.new[video.name] = NewFile(video, look, None)
            return
        content = content_sha256(video.file)
        new = NewFile(video, look, content)
        if not is_same(video, look):
            self.found.left.append(left_file(video, look, None, self.rules, CHANGED))
        elif content in self.ledger.scored:
            self.found.known.append(
                known_file(new, content, self.ledger.scored[content], self.places, self.found.recognised)
            )
        elif content in self.contents:
            self.found.twins.append(new)
        else:
            self.contents.add(content)
            self.found.new[video.name] = new


def is_same(video: Video, look: Look) -> bool:
    """Whether a second look finds a file as before. Raises OSError or DecodeError."""
    return look_at(video) == look


def told_file(new: NewFile, state: str, content: str, scored: tuple[str, str] = ("", ""), reason: str = "") -> File:
    """The row of a file, without what is known only of a scored one."""
    look = new.look
    modified = None if look.modified_s is None else datetime.datetime.fromtimestamp(look.modified_s, datetime.UTC)
    return File(
        video_id=new.video.name,
        state=state,
        path=new.video.place,
        sha256=content,
        bytes=-1 if look.bytes is None else look.bytes,
        modified=modified,
        version=look.version,
        scored_date=scored[0],
        scored_id=scored[1],
        reason=reason,
    )


def known_file(new: NewFile, content: str, scored: Scored, places: set[str], moved: set[str]) -> File:
    """The row of a file whose content was scored on an earlier day.

    Args:
        new: the file.
        content: its SHA-256.
        scored: where the scores are, and the file was.
        places: of all files that are there now.
        moved: contents that were found under another name or time in this run; this one is added.
    """
    is_copy = content in moved or (scored.path in places and scored.path != new.video.place)
    moved.add(content)
    return told_file(new, "copy" if is_copy else "moved", content, (scored.date, scored.video_id))


def left_file(
    video: Video, look: Look, before: EarlierLook | None, rules: Rules, reason: str, problem: bool = False
) -> Left:
    """A file for a later run."""
    first_s = first_seen_s(look, before, rules.now_s())
    name, place = (text.encode("utf-8", "replace").decode("utf-8") for text in (video.name, video.place))
    return Left(name, place, reason, look.version, look.bytes, first_s, problem)


def _is_unicode(video: Video) -> bool:
    try:
        f"{video.name}{video.place}".encode()
    except UnicodeEncodeError:
        return False
    return True
