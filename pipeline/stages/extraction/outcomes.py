"""The videos that an extraction is at work on, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cache import NonFiniteFeatures
from pipeline.errors import DecodeError
from pipeline.stages.extraction.engine import ClipBatcher
from pipeline.stages.extraction.feeding import ViewFeed, WindowFeed
from pipeline.stages.extraction.writing import VideoSink

__all__ = ["ActiveVideo", "Outcome", "finished", "outcome_of"]


@dataclass(frozen=True)
class Outcome:
    """What became of one video.

    Attributes:
        video_id: which video.
        frames: decoded frames.
        error: why it could not be extracted; None when it was.
        loss: what damage has cost it, in words; None for a whole video.
    """

    video_id: str
    frames: int
    error: DecodeError | NonFiniteFeatures | None
    loss: str | None = None


@dataclass(frozen=True)
class ActiveVideo:
    """A video that is being extracted: where its frames go, and where its features go."""

    sink: VideoSink
    feed: WindowFeed | ViewFeed


def finished(batcher: ClipBatcher, active: dict[int, ActiveVideo]) -> Iterator[Outcome]:
    """Run what waits for a full batch, and wait for what all videos still lack; they are decoded. Empties `active`."""
    batcher.flush()
    for number in sorted(active):
        active[number].sink.settled.wait()
        yield outcome_of(active.pop(number).sink)


def outcome_of(sink: VideoSink) -> Outcome:
    """What became of a settled video. Raises every error that is not the video's own fault."""
    if sink.error is None or isinstance(sink.error, DecodeError | NonFiniteFeatures):
        return Outcome(sink.video_id, sink.frames, sink.error, sink.loss)
    raise sink.error
