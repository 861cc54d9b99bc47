"""One video as it is being decoded in another process: what its reader sees, and the process with its ring of
pictures."""

from __future__ import annotations

import math
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import VideoHeader
from pipeline.errors import DecodeError, DecoderKilled

__all__ = ["Collected", "Job", "Pictures", "Receiver", "Select", "VideoStream", "Worker"]

SLOTS = 64
SENT_AT_ONCE = 16
COUNTER_BYTES = 64

Select = Callable[[int], Sequence[int]]
Pictures = tuple[list[float], dict[int, np.ndarray]]
KILLED = (-signal.SIGKILL, -signal.SIGTERM)


@dataclass(frozen=True)
class Job:
    """A video to decode.

    Attributes:
        path: file or folder of images.
        select: given the number of frames, which of them are wanted as pictures; None wants all. Asked with the planned
            number first, and, where the decoder yields another, again with that. A picklable function of a module.
        header_only: read the header and decode no more than it needs.
    """

    path: Path
    select: Select | None = None
    header_only: bool = False


class Receiver(Protocol):
    """Takes a video's frames as they come."""

    def begin(self) -> None:
        """The frames follow, from the first on; said again where the decoder yielded another number of them than was
        planned."""

    def frames(self, times_s: Sequence[float], pictured: Sequence[int], pictures: np.ndarray) -> None:
        """The next frames.

        Args:
            times_s: when each is shown.
            pictured: which of these have pictures, from 0, rising.
            pictures: (len(pictured), S, S, 3) uint8, overwritten once this returns: what is kept is copied.
        """


class Collected:
    """A receiver that keeps everything.

    Attributes:
        times: presentation times of the frames so far, seconds.
        pictures: (S, S, 3) uint8, by frame number.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what has come: another number of frames needs other pictures."""
        self.times: list[float] = []
        self.pictures: dict[int, np.ndarray] = {}

    def frames(self, times_s: Sequence[float], pictured: Sequence[int], pictures: np.ndarray) -> None:
        numbers = [len(self.times) + position for position in pictured]
        self.pictures.update(zip(numbers, pictures.copy(), strict=True))
        self.times += times_s


class VideoStream:
    """One video as it is being decoded elsewhere; read it once: with `collect`, which waits, or with `advance`.

    Attributes:
        job: what is decoded, and how.
        worker: who does it.
        finished: whether the worker has told the end, or an error.
        closed: whether there is nothing more to be read: finished, failed, or given up by its reader.
        damage: what was passed over; known at the end.
    """

    def __init__(self, job: Job, worker: Worker, timeout_s: float) -> None:
        self.job, self.worker, self.finished, self.closed, self.damage = job, worker, False, False, Damage()
        self._timeout_s = timeout_s
        self._header: VideoHeader | None = None
        self._silent_since: float | None = None

    def header(self) -> VideoHeader:
        """The video's header. Raises DecodeError."""
        if self._header is None:
            self._header = self._receive("header")[0]
        return self._header

    def finish(self) -> None:
        """Wait for the end of a job that sends nothing more."""
        self._receive("end")

    def close(self) -> None:
        """Read no more of it."""
        self.closed = True

    def collect(self) -> Pictures:
        """Decode to the end: presentation times of all frames, seconds, and the selected pictures by frame number.

        Raises DecodeError.
        """
        collected = Collected()
        while not self.closed:
            self.advance(collected, SLOTS)
        return collected.times, collected.pictures

    def advance(self, receiver: Receiver, most: int) -> None:
        """Hand over what has come, about `most` frames at most. Waits only where nothing has come yet. Raises
        DecodeError."""
        handed = 0
        while handed < most:
            kind, values = self._message()
            if kind == "header":
                self._header = values[0]
            elif kind == "begin":
                receiver.begin()
            elif kind == "frames":
                times_s, pictured, slot = values
                receiver.frames(times_s, pictured, self.worker.pictures(slot, len(pictured)))
                self.worker.free(len(pictured))
                handed += len(times_s)
            if self.closed or not self.worker.has_sent():
                return

    def due(self, has_sent: bool) -> bool:
        """Whether `advance` would not wait: the worker has sent something, or has been silent for longer than it
        may."""
        if has_sent:
            self._silent_since = None
            return True
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        return self.patience_s() <= 0

    def patience_s(self) -> float:
        """Seconds for which the worker may be silent yet."""
        silent_s = 0.0 if self._silent_since is None else time.monotonic() - self._silent_since
        return max(0.0, self._timeout_s - silent_s)

    def _receive(self, expected: str) -> tuple:
        kind, values = self._next()
        if kind != expected:
            raise DecodeError(f"{self.job.path}: the decoder sent {kind!r} where {expected!r} was due")
        return values

    def _next(self) -> tuple[str, tuple]:
        while True:
            kind, values = self._message()
            if kind != "alive":
                return kind, values

    def _message(self) -> tuple[str, tuple]:
        try:
            kind, *values = self.worker.receive(self.job.path, self.patience_s(), self._timeout_s)
        except DecodeError:
            self.closed = True
            raise
        self._silent_since = None
        if kind == "end":
            self.finished, self.closed, self.damage = True, True, values[1]
        elif kind == "error":
            self.finished, self.closed = True, True
            raise DecodeError(values[0], frame=self.worker.decoded, library=values[1])
        return kind, tuple(values)


def shared(memory: int, crop: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """The memory that a worker and its reader have in common, by its descriptor.

    Returns:
        The number of frames decoded so far, (1,) int64, and the ring of pictures (slots, crop, crop, 3) uint8.
    """
    content = mmap.mmap(memory, os.fstat(memory).st_size)
    pictures = np.frombuffer(content, np.uint8, slots * crop * crop * 3, offset=COUNTER_BYTES)
    return np.frombuffer(content, np.int64, 1), pictures.reshape(slots, crop, crop, 3)


class Worker:
    """One process, its ring of pictures and its socket."""

    def __init__(self, decoder: str, short_side: int, crop: int, max_pixels: int) -> None:
        memory = os.memfd_create("gig-frames")
        ours, theirs = socket.socketpair()
        try:
            os.ftruncate(memory, COUNTER_BYTES + SLOTS * crop * crop * 3)
            self._counter, self._ring = shared(memory, crop, SLOTS)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.data.decoding.child", str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the process that made it, with which it ends
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            )
        finally:
            os.close(memory)
            theirs.close()
        self.connection = Connection(ours.detach())
        self.connection.send((decoder, short_side, crop, max_pixels, SLOTS))
        self._poll = select.poll()  # kept: the connection's own poll makes one for every question
        self._poll.register(self.connection.fileno(), select.POLLIN)

    @property
    def decoded(self) -> int:
        """The frames of the video that have been decoded, sent or not."""
        return int(self._counter[0])

    def send(self, job: Job) -> None:
        self._counter[0] = 0
        with suppress(OSError):  # it has died; `receive` says so with the video's name
            self.connection.send(job)

    def has_sent(self) -> bool:
        """Whether `receive` would return, or raise, at once."""
        return self.connection.closed or bool(self._poll.poll(0))

    def receive(self, path: Path, wait_s: float, timeout_s: float) -> tuple:
        """The next message.

        Raises:
            DecoderKilled: something outside has killed the process.
            DecodeError: it has died otherwise, or says nothing for too long.
        """
        error = DecodeError
        try:
            if self.connection.closed or self._poll.poll(math.ceil(1000 * wait_s)):
                return self.connection.recv()
            what = f"the decoder gave no sign of life for {timeout_s:g} s"
        except (EOFError, OSError):
            code = self.process.wait()
            what = f"the decoder's process died ({_cause(code)})"
            error = DecoderKilled if code in KILLED else DecodeError
        raise error(f"{path}: {what}, at frame {self.decoded}", frame=self.decoded)

    def pictures(self, slot: int, count: int) -> np.ndarray:
        """Pictures at neighbouring places of the ring (count, S, S, 3) uint8, until the places are free."""
        return self._ring[slot : slot + count]

    def free(self, pictures: int) -> None:
        """So many have been read."""
        if pictures:
            with suppress(OSError):
                self.connection.send(pictures)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name + (", perhaps for want of memory" if -code == signal.SIGKILL else "")
