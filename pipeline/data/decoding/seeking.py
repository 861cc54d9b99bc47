"""Single frames of a long video, found by seeking to the key frame before each, where that is sound.

Frames are numbered by decoding from the start; after a seek nothing but its time tells a frame's number. So a frame is
taken only if its time and that of the frame before it are those that the caller knows from a pass over all frames.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import av
import numpy as np

from pipeline.data.decoding.opening import opened
from pipeline.data.decoding.orientation import Upright
from pipeline.data.decoding.placing import mean_rate
from pipeline.data.decoding.times import Pace
from pipeline.remote import AnyPath

__all__ = ["sought_frames"]

TOLERANCE_S = 1e-3
READ_ON_S = 1.0
"""To a frame that is this near to the one before, decoding goes on without a seek."""


def sought_frames(
    path: AnyPath, times_s: np.ndarray, wanted: Collection[int], alive: Callable[[], None] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames of a video file, in order, without those that cannot be found for sure.

    None of a file whose clock may begin anew or that stamps frames in the order in which they are decoded, none that is
    damaged, and never the first one.

    Args:
        path: the video.
        times_s: (N,) float64, when each frame is shown, seconds from the first one on.
        wanted: numbers of frames.
        alive: called for every decoded frame; may raise to end it.

    Yields:
        The number and the (height, width, 3) uint8 RGB picture, upright.

    Raises:
        DecodeError: the file cannot be opened.
    """
    with opened(path) as (container, stream):
        pace, upright = Pace.of(container, mean_rate(stream)), Upright()
        if pace.restarts or pace.by_order or stream.time_base is None:
            return
        stream.thread_type = "NONE"  # as `placed_frames` decodes
        told = alive or _nothing
        origin_s = _origin_s(container, stream, pace, times_s)
        if origin_s is None:
            return
        frames, reached_s = None, -np.inf
        for number in sorted(number for number in wanted if 0 < number < len(times_s)):
            before_s, time_s = (origin_s + times_s[number - 1 : number + 1]).tolist()
            try:
                if frames is None or not reached_s < before_s <= reached_s + READ_ON_S:
                    container.seek(int((before_s + TOLERANCE_S) / stream.time_base), stream=stream)
                    frames = _sound(container, stream, told)
                found, last_s = None, -np.inf
                for frame in frames:
                    if frame.key_frame:
                        upright.size(frame)
                    stamp_s = pace.stamp_s(frame)
                    reached_s = -np.inf if stamp_s is None else stamp_s
                    if reached_s > time_s - TOLERANCE_S:
                        found = frame
                        break
                    last_s = reached_s
            except (av.error.FFmpegError, ValueError):
                found = None
            if found is None or abs(reached_s - time_s) > TOLERANCE_S or abs(last_s - before_s) > TOLERANCE_S:
                frames = None
                continue
            yield number, np.ascontiguousarray(upright.image(found, *upright.size(found)))


def _nothing() -> None:
    """Tells nobody."""


def _origin_s(
    container: av.container.InputContainer, stream: av.VideoStream, pace: Pace, times_s: np.ndarray
) -> float | None:
    """The stamp of the first frame; None where the first two are not as far apart as they should be."""
    stamps = []
    try:
        for frame in container.decode(stream):
            stamps.append(pace.stamp_s(frame))
            if len(stamps) == 2:
                break
    except (av.error.FFmpegError, ValueError):
        return None
    first_s, second_s = (stamps + [None, None])[:2]
    if first_s is None or second_s is None or len(times_s) < 2:
        return None
    return first_s if abs(second_s - first_s - (times_s[1] - times_s[0])) < TOLERANCE_S else None


def _sound(
    container: av.container.InputContainer, stream: av.VideoStream, alive: Callable[[], None]
) -> Iterator[av.VideoFrame]:
    """Frames from a key frame on, up to the first that is damaged."""
    for count, frame in enumerate(container.decode(stream)):
        alive()
        if frame.is_corrupt or (count == 0 and not frame.key_frame):
            return
        yield frame
