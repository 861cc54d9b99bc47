"""What the tests of decoding processes share: workers for small pictures, and ways to read their streams."""

from __future__ import annotations

import time

from pipeline.data.decoding.geometry import centre_crop
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.decoding.stream import VideoStream
from pipeline.errors import DecodeError


def small_workers(decoder: str, count: int = 1, timeout_s: float = 300.0) -> DecodeWorkers:
    """Workers with one of the decoders in the folder `decoders`; pictures are 8 x 8."""
    return DecodeWorkers(count, timeout_s, fit=centre_crop(8, 8), decoder=f"decoders.{decoder}")


class Frames:
    """Keeps the value of every picture that it is given, and how often it was told to begin."""

    def __init__(self) -> None:
        self.values: list[int | None] = []
        self.begun = 0

    def begin(self):
        self.values, self.begun = [], self.begun + 1

    def take(self, times_s, pictured, pictures):
        assert len(pictured) == len(pictures)
        values = dict(zip(pictured, pictures[:, 0, 0, 0].tolist(), strict=True))
        self.values += [values.get(position) for position in range(len(times_s))]


def expect_a_hang(stream: VideoStream) -> None:
    """Let half a second of silence count as hung as soon as the decoder `failing` hangs, at its fourth frame.

    Before that it may take as long as a busy machine needs, as may all other decoders.
    """
    if "hang" in stream.job.path.name:
        while stream.worker.decoded < 3:
            time.sleep(0.01)
        stream._timeout_s = 0.5


def read_together(workers, jobs, most=8) -> list[list[int | None] | str]:
    """The values or the error of every job, if streams are read as soon as they can be."""
    received, errors = {}, {}
    for number, stream in workers.readable(jobs):
        expect_a_hang(stream)
        try:
            stream.advance(received.setdefault(number, Frames()), most)
        except DecodeError as error:
            errors[number] = str(error)
    return [errors.get(number) or received[number].values for number in sorted(received)]


def outcome(stream) -> int | str:
    """The number of frames of a stream, or the error."""
    expect_a_hang(stream)
    try:
        times, _ = stream.collect()
    except DecodeError as error:
        return str(error)
    return len(times)


def last_frame(n_frames: int) -> list[int]:
    return [n_frames - 1]


def every_third(n_frames: int) -> list[int]:
    return list(range(0, n_frames, 3))
