"""What a decoding process and its reader send each other, pickled, over their socket.

The reader sends `Settings` once, then one `Job` after another, and between them the number of pictures that it has read
and whose places in the ring are free again. The process answers a job with a `HeaderRead`; then, unless only the header
was asked for, with a `Begun` and some `FramesSent`; and in the end with an `Ended` or, at any time, a `Failed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import VideoHeader
from pipeline.data.decoding.geometry import Fit
from pipeline.remote import AnyPath

__all__ = [
    "Alive",
    "Begun",
    "Ended",
    "Failed",
    "FramesSent",
    "HeaderRead",
    "Job",
    "Message",
    "Select",
    "Settings",
    "Source",
]

Select = Callable[[int], Sequence[int]]
"""From a video's number of frames to the numbers of those that are wanted as pictures."""


@dataclass(frozen=True)
class Settings:
    """How a process decodes all its videos.

    Attributes:
        decoder: name of a module with `read_header` and `iter_frames`.
        fit: what is seen of a picture, and at what size.
        max_pixels: how many pixels a picture may have, see `pipeline.data.decoding.opening.limit_pixels`.
    """

    decoder: str
    fit: Fit
    max_pixels: int


@dataclass(frozen=True)
class Job:
    """A video to decode.

    Attributes:
        path: file or folder of images.
        select: which frames are wanted as pictures; None wants all. Called with the planned number of frames first,
            and, if the decoder yields another number, again with that. Must be picklable: a function of a module.
        header_only: read the header, and decode no more than that needs.
    """

    path: AnyPath
    select: Select | None = None
    header_only: bool = False


@dataclass(frozen=True)
class Alive:
    """A sign of life while a header is read, or while a storage is waited for."""


@dataclass(frozen=True)
class HeaderRead:
    """The header of the job's video."""

    header: VideoHeader


@dataclass(frozen=True)
class Begun:
    """The frames follow, from the first on, `planned` of them if the plan is right."""

    planned: int


@dataclass(frozen=True)
class FramesSent:
    """The next frames.

    Attributes:
        times_s: presentation times, seconds.
        pictured: which of these frames have pictures, counted from 0, rising.
        slot: the place of the first picture in the ring; the others are behind it.
    """

    times_s: list[float]
    pictured: list[int]
    slot: int


@dataclass(frozen=True)
class Source:
    """What was decoded.

    Attributes:
        version: what the storage calls it, see `pipeline.remote.Facts`.
        sha256: of its content.
    """

    version: str
    sha256: str


@dataclass(frozen=True)
class Ended:
    """The job is done.

    Attributes:
        count: frames decoded; of a job for the header alone, those that the header plans.
        damage: errors that were counted, and frames that were lost.
        source: of a video of a storage, unless only its header was asked for.
    """

    count: int
    damage: Damage
    source: Source | None = None


@dataclass(frozen=True)
class Failed:
    """The job has failed.

    Attributes:
        text: the error, for a person.
        library: the decoding library's own words, if it was the library that failed.
        storage: whether it was the storage in which the video lies: then the video is not to blame.
    """

    text: str
    library: str | None
    storage: bool = False


Message = Alive | HeaderRead | Begun | FramesSent | Ended | Failed
