"""What can be seen of a file without reading it: whether it has changed, whether it is still being written, its day."""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline.data.decoding.image_folder import image_files
from pipeline.errors import ConfigError, DecodeError
from pipeline.stages.scoring.sources import LocalVideo, RemoteVideo, Video, file_version

__all__ = ["EarlierLook", "Look", "day_of", "find_zone", "first_seen_s", "look_at", "today", "waiting_reason"]

EARLIEST_S = datetime.datetime(1678, 1, 1, tzinfo=datetime.UTC).timestamp()
LATEST_S = datetime.datetime(2262, 1, 1, tzinfo=datetime.UTC).timestamp()
"""What pandas can hold in nanoseconds."""


@dataclass(frozen=True)
class Look:
    """A file, or an object of a storage, at one moment.

    Attributes:
        version: changes whenever the content can have changed; "" where nothing says so.
        bytes: its size; None where the storage does not say.
        modified_s: when its content was last changed, by its own time, seconds since 1970; None where nothing says so.
        changed_s: when anything of it was last changed, by the clock of its file system: of a file that was copied with
            its time, later than `modified_s`.
    """

    version: str
    bytes: int | None
    modified_s: float | None
    changed_s: float | None


@dataclass(frozen=True)
class EarlierLook:
    """A file that a former run left, as it was then.

    Attributes:
        version, bytes: as of `Look`.
        first_s: when it was first seen like this, seconds since 1970.
    """

    version: str
    bytes: int | None
    first_s: float


def look_at(video: Video) -> Look:
    """Raises OSError or DecodeError where it cannot be looked at."""
    if isinstance(video, RemoteVideo):
        modified_s = _time(video.modified_s)
        return Look(video.version or "", video.bytes, modified_s, modified_s)
    if not isinstance(video, LocalVideo):
        raise DecodeError(f"{video.place}: neither a file of this machine nor of a storage")
    if not video.file.is_dir():
        found = video.file.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be read for ever
            raise DecodeError(f"{video.place}: expected a file or a folder of images, got another kind of thing")
        changed_s = max(found.st_mtime, found.st_ctime)
        return Look(file_version(found), found.st_size, _time(found.st_mtime), _time(changed_s))
    return _look_at_images(video.file)


def _time(value_s: float | None) -> float | None:
    """A time that a calendar has; None for others, such as milliseconds that a storage gives for seconds."""
    return value_s if value_s is not None and EARLIEST_S <= value_s <= LATEST_S else None


def _look_at_images(folder: Path) -> Look:
    digest, size, modified_s, changed_s = hashlib.sha256(), 0, 0.0, folder.stat().st_ctime
    for image in image_files(folder):
        found = os.stat(str(image))  # a folder of this machine
        digest.update(os.fsencode(image.name) + b"\0" + file_version(found).encode())
        size += found.st_size
        modified_s = max(modified_s, found.st_mtime)
        changed_s = max(changed_s, found.st_mtime, found.st_ctime)
    return Look(f"images {digest.hexdigest()}", size, _time(modified_s), _time(changed_s))


def waiting_reason(look: Look, before: EarlierLook | None, now_s: float, settle_s: float) -> str:
    """Why a file is left for a later run; "" where it has settled.

    It has settled when nothing of it was changed for `settle_s`. Where its times say nothing, or lie in the future, two
    runs that far apart must have seen it with the same size and version.

    Args:
        look: of now.
        before: of a former run.
        now_s: seconds since 1970.
        settle_s: seconds.
    """
    if look.changed_s is not None and look.changed_s <= now_s:
        age_s = now_s - look.changed_s
        return "" if age_s >= settle_s else f"changed {age_s:.0f} s ago, less than {settle_s:g} s: still being written?"
    why = "nothing says when it was changed" if look.changed_s is None else "its time lies in the future"
    first_s = first_seen_s(look, before, now_s)
    if now_s - first_s >= settle_s:
        return ""
    return f"{why}: it is taken when a later run sees it with the same size"


def first_seen_s(look: Look, before: EarlierLook | None, now_s: float) -> float:
    """Since when a file is known to be as it is now; not later than now, if a clock was wrong before."""
    same = before is not None and (before.version, before.bytes) == (look.version, look.bytes)
    return min(before.first_s, now_s) if same and before is not None else now_s


def day_of(look: Look, before: EarlierLook | None, now_s: float, zone: ZoneInfo) -> datetime.date:
    """The day to which a file belongs: that of its time; where it has none, or one in the future, when it was first
    seen."""
    time_s = look.modified_s
    if time_s is None or time_s > now_s:
        time_s = first_seen_s(look, before, now_s)
    return datetime.datetime.fromtimestamp(time_s, zone).date()


def find_zone(name: str) -> ZoneInfo:
    """A time zone by its name, such as Europe/Berlin. Raises ConfigError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError(f"time zone: expected a name such as UTC or Europe/Berlin, got {name!r}") from error


def today(zone: ZoneInfo, now_s: float) -> datetime.date:
    """The day that it is in a time zone."""
    return datetime.datetime.fromtimestamp(now_s, zone).date()
