"""What a manifest holds: videos, annotated intervals, and what they were read from."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import ManifestError

__all__ = ["SPLITS", "Interval", "Origin", "SourceFile", "VideoEntry"]

SPLITS = ("train", "test")


@dataclass(frozen=True)
class VideoEntry:
    """One video.

    Attributes:
        video_id: unique name; case counts.
        path: relative to the manifest's root, with forward slashes.
        split: `train` or `test`.
        labels: anomaly classes in the video; empty means normal, None that they were not read (see `load`).
        source: what the video was cut from, if known; videos of one source never lie on both sides of a split.
        width, height: pixels, after rotation; 0 where the header cannot be read.
        fps: as the container states it.
        packets: planned number of frames: the packets for which a player shows a picture, see `VideoHeader`. The
            decoder may yield another number. 0 where the header cannot be read.
        bytes: size on disk.
    """

    video_id: str
    path: str
    split: str
    labels: tuple[str, ...] | None
    source: str | None
    width: int
    height: int
    fps: float
    packets: int
    bytes: int

    @property
    def known_labels(self) -> tuple[str, ...]:
        """The labels. Raises ManifestError for a test video of a manifest that was loaded without the ground truth."""
        if self.labels is None:
            raise ManifestError(f"{self.video_id}: the labels of test videos were not read")
        return self.labels


@dataclass(frozen=True)
class Interval:
    """Frames [start_frame, end_frame) of a test video that show `label`.

    An end_frame of None is the end of the video, whose length is known only after decoding.
    """

    video_id: str
    label: str
    start_frame: int
    end_frame: int | None


@dataclass(frozen=True)
class SourceFile:
    """A file that labels or intervals were read from.

    Attributes:
        path: relative to the data set's root; outside the root the file's name.
        sha256: of its content.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Origin:
    """What a manifest was made of.

    Attributes:
        adapter: what read the files.
        version: of the adapter; raised when it reads the same files differently.
        files: the annotation files.
        warnings: faults of the files that were accepted, one line each.
        clip_past_end: whether an interval that ends past the last decoded frame is cut there; else it is an error. Set
            for published annotations, which the user cannot correct.
    """

    adapter: str = "none"
    version: int = 1
    files: tuple[SourceFile, ...] = ()
    warnings: tuple[str, ...] = ()
    clip_past_end: bool = False
