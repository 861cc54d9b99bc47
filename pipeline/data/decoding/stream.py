"""One video as it is being decoded in another process: what its reader sees."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import VideoHeader
from pipeline.data.decoding.messages import Alive, Begun, Ended, Failed, FramesSent, HeaderRead, Job, Message, Source
from pipeline.data.decoding.process import SLOTS, Worker
from pipeline.errors import DecodeError, StorageError

__all__ = ["Collected", "Receiver", "TimesAndPictures", "VideoStream"]

TimesAndPictures = tuple[list[float], dict[int, np.ndarray]]
"""Presentation times of all frames, seconds, and the wanted pictures (H, W, 3) uint8 by frame number."""

Expected = TypeVar("Expected", HeaderRead, Ended)


class Receiver(Protocol):
    """Takes a video's frames as they come."""

    def begin(self) -> None:
        """The frames follow, from the first on.

        Called again if the decoder yielded another number of frames than was planned: what came before is void.
        """

    def take(self, times_s: Sequence[float], pictured: Sequence[int], pictures: np.ndarray) -> None:
        """Take the next frames.

        Args:
            times_s: presentation times of these frames, seconds.
            pictured: which of these frames have pictures, counted from 0, rising.
            pictures: (len(pictured), H, W, 3) uint8, overwritten once this returns: what is kept must be copied.
        """


class Collected:
    """A receiver that keeps everything.

    Attributes:
        times: presentation times of the frames so far, seconds.
        pictures: (H, W, 3) uint8, by frame number.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what has come: another number of frames needs other pictures."""
        self.times: list[float] = []
        self.pictures: dict[int, np.ndarray] = {}

    def take(self, times_s: Sequence[float], pictured: Sequence[int], pictures: np.ndarray) -> None:
        """Keep the next frames."""
        numbers = [len(self.times) + position for position in pictured]
        self.pictures.update(zip(numbers, pictures.copy(), strict=True))
        self.times += times_s


class VideoStream:
    """One video as it is being decoded elsewhere. Read it once: with `collect`, which waits, or with `advance`.

    Attributes:
        job: what is decoded, and how.
        worker: the process that does it.
        untouched: whether nothing of it has been read yet.
        finished: whether the worker has reported the end, or an error.
        closed: whether there is nothing more to be read: finished, failed, or given up by its reader.
        damage: errors that were counted, and frames that were lost; known at the end.
        source: what was read of a storage; None for a file of this machine. Known at the end.

    Every method that waits raises StorageError if the video's storage fails.
    """

    def __init__(self, job: Job, worker: Worker, timeout_s: float) -> None:
        self.job, self.worker, self.damage = job, worker, Damage()
        self.source: Source | None = None
        self.untouched, self.finished, self.closed = True, False, False
        self._timeout_s = timeout_s
        self._header: VideoHeader | None = None
        self._silent_since: float | None = None
        worker.send(job)

    def restart(self, worker: Worker) -> None:
        """Decode an untouched stream anew with another worker; that before has ended."""
        self.worker, self._silent_since = worker, None
        worker.send(self.job)

    def header(self) -> VideoHeader:
        """The video's header. Raises DecodeError."""
        if self._header is None:
            self._header = self._receive(HeaderRead).header
        return self._header

    def finish(self) -> None:
        """Wait for the end of a job that sends nothing more. Raises DecodeError."""
        self._receive(Ended)

    def close(self) -> None:
        """Read no more of it."""
        self.closed = True

    def collect(self) -> TimesAndPictures:
        """Decode to the end. Raises DecodeError."""
        collected = Collected()
        while not self.closed:
            self.advance(collected, SLOTS)
        return collected.times, collected.pictures

    def advance(self, receiver: Receiver, most: int) -> None:
        """Hand over what has come. Waits only if nothing has come yet.

        Args:
            receiver: given the frames.
            most: about how many frames to hand over at most.

        Raises:
            DecodeError: the video cannot be decoded.
        """
        handed = 0
        while handed < most:
            match self._message():
                case HeaderRead(header):
                    self._header = header
                case Begun():
                    receiver.begin()
                case FramesSent(times_s, pictured, slot):
                    receiver.take(times_s, pictured, self.worker.pictures(slot, len(pictured)))
                    self.worker.free(len(pictured))
                    handed += len(times_s)
            if self.closed or not self.worker.has_sent():
                return

    def due(self, has_sent: bool) -> bool:
        """Whether `advance` would not wait: the worker has sent something, or has been silent for too long."""
        if has_sent:
            self._silent_since = None
            return True
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        return self.patience_s() <= 0

    def patience_s(self) -> float:
        """For how many more seconds the worker may be silent."""
        silent_s = 0.0 if self._silent_since is None else time.monotonic() - self._silent_since
        return max(0.0, self._timeout_s - silent_s)

    def _receive(self, expected: type[Expected]) -> Expected:
        message = self._message()
        while isinstance(message, Alive):
            message = self._message()
        if isinstance(message, expected):
            return message
        raise DecodeError(
            f"{self.job.path}: the decoder sent {type(message).__name__} where {expected.__name__} was due"
        )

    def _message(self) -> Message:
        self.untouched = False
        try:
            message = self.worker.receive(self.job.path, self.patience_s(), self._timeout_s)
        except DecodeError:
            self.closed = True
            raise
        self._silent_since = None
        if isinstance(message, Ended | Failed):
            self.finished, self.closed = True, True
        if isinstance(message, Ended):
            self.damage, self.source = message.damage, message.source
        if isinstance(message, Failed) and message.storage:
            raise StorageError(message.text)
        if isinstance(message, Failed):
            raise DecodeError(message.text, frame=self.worker.decoded, library=message.library)
        return message
