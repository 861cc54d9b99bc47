"""Decoding in worker processes: a video that crashes or hangs its decoder costs that video, not the run.

A worker is a fresh interpreter that imports numpy and PyAV and nothing of ours beyond `pipeline.data`: it is not forked, and does
not import the caller's main module. Pictures come back through an anonymous shared-memory ring, words over a socket. A worker
decodes ahead of its reader as far as the ring reaches, so memory is bounded, and ends when the process that made it does.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from pipeline.data.damage import Damage
from pipeline.data.decode import Frame, VideoHeader
from pipeline.errors import DecodeError

__all__ = ["DecodeWorkers", "Job", "VideoStream"]

SLOTS = 64

Select = Callable[[int], Sequence[int]]


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


class DecodeWorkers:
    """Worker processes that decode videos in order, each one video at a time. Use it in a `with` block.

    Args:
        count: processes; as many videos are decoded ahead.
        timeout_s: seconds without a sign of life after which a decoder counts as hung.
        short_side, crop: see `pipeline.data.decode.iter_frames`; pixels.
        decoder: module with `read_header` and `iter_frames`.
    """

    def __init__(
        self,
        count: int = 2,
        timeout_s: float = 120.0,
        *,
        short_side: int = 256,
        crop: int = 224,
        decoder: str = "pipeline.data.decode",
    ) -> None:
        self.count, self.timeout_s = count, timeout_s
        self._options = (decoder, short_side, crop)
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def __enter__(self) -> DecodeWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._idle + self._busy:
            worker.kill()
        self._idle, self._busy = [], []

    def streams(self, jobs: Iterable[Job]) -> Iterator[VideoStream]:
        """A stream a job, in order; the next ones are decoded while one is read. A stream left unread is cut off."""
        waiting: deque[VideoStream] = deque()
        jobs = iter(jobs)
        try:
            while True:
                while len(waiting) < self.count and (job := next(jobs, None)) is not None:
                    waiting.append(self._start(job))
                if not waiting:
                    return
                stream = waiting.popleft()
                yield stream
                self._settle(stream)
        finally:
            for stream in waiting:
                self._settle(stream)

    def headers(self, paths: Iterable[Path]) -> Iterator[VideoHeader | DecodeError]:
        """The header of every video in order, or why it cannot be read."""
        for stream in self.streams(Job(path, header_only=True) for path in paths):
            try:
                header = stream.header()
                stream.finish()
                yield header
            except DecodeError as error:
                yield error

    def count_frames(self, path: Path) -> int:
        """The number of frames the decoder yields. Raises DecodeError."""
        for stream in self.streams([Job(path, select=_none)]):
            return len(stream.collect()[0])
        raise AssertionError("a job has a stream")

    def _start(self, job: Job) -> VideoStream:
        worker = self._idle.pop() if self._idle else _Worker(*self._options)
        self._busy.append(worker)
        worker.send(job)
        return VideoStream(job, worker, self.timeout_s)

    def _settle(self, stream: VideoStream) -> None:
        if stream.worker not in self._busy:
            return  # the `with` block has ended, and every worker with it
        self._busy.remove(stream.worker)
        if stream.finished:
            self._idle.append(stream.worker)
        else:
            stream.worker.kill()


class VideoStream:
    """One video as it is being decoded elsewhere; read it once, with `frames` or `collect`.

    Attributes:
        job: what is decoded, and how.
        worker: who does it.
        finished: whether the worker has told the end, or an error.
        damage: what was passed over; known at the end.
    """

    def __init__(self, job: Job, worker: _Worker, timeout_s: float) -> None:
        self.job, self.worker, self.finished, self.damage = job, worker, False, Damage()
        self._timeout_s = timeout_s
        self._header: VideoHeader | None = None
        self._decoded = 0

    def header(self) -> VideoHeader:
        """The video's header. Raises DecodeError."""
        if self._header is None:
            self._header = self._receive("header")[0]
        return self._header

    def finish(self) -> None:
        """Wait for the end of a job that sends nothing more."""
        self._receive("end")

    def frames(self) -> Iterator[Frame]:
        """All frames in order. Raises DecodeError, after the frames before it."""
        self.header()
        self._receive("begin")
        while True:
            kind, values = self._next()
            if kind == "end":
                return
            time_s, slot = values
            yield Frame(self.worker.take(slot), time_s)

    def collect(self, report: Callable[[int], None] | None = None) -> tuple[list[float], dict[int, np.ndarray]]:
        """Decode to the end: presentation times of all frames, seconds, and the selected pictures by frame number.

        `report` is told the number of frames so far, after every frame. Raises DecodeError.
        """
        self.header()
        times: list[float] = []
        pictures: dict[int, np.ndarray] = {}
        while True:
            kind, values = self._next()
            if kind == "end":
                return times, pictures
            if kind == "begin":  # once more, if the decoder yielded another number of frames than was planned
                times, pictures = [], {}
                continue
            time_s, slot = values
            if slot >= 0:
                pictures[len(times)] = self.worker.take(slot)
            times.append(time_s)
            if report:
                report(len(times))

    def _receive(self, expected: str) -> tuple:
        kind, values = self._next()
        if kind != expected:
            raise DecodeError(f"{self.job.path}: the decoder sent {kind!r} where {expected!r} was due")
        return values

    def _next(self) -> tuple[str, tuple]:
        while True:
            kind, *values = self.worker.receive(self.job.path, self._decoded, self._timeout_s)
            if kind == "begin":
                self._decoded = 0
            elif kind == "frame":
                self._decoded += 1
            elif kind == "end":
                self.finished, self.damage = True, values[1]
            elif kind == "error":
                self.finished = True
                raise DecodeError(values[0], frame=self._decoded, library=values[1])
            if kind != "alive":
                return kind, tuple(values)


class _Worker:
    """One process, its ring of pictures and its socket."""

    def __init__(self, decoder: str, short_side: int, crop: int) -> None:
        self._shape = (crop, crop, 3)
        self._slot_bytes = crop * crop * 3
        memory = os.memfd_create("gig-frames")
        ours, theirs = socket.socketpair()
        try:
            os.ftruncate(memory, SLOTS * self._slot_bytes)
            self._ring = mmap.mmap(memory, SLOTS * self._slot_bytes)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.data.decode_worker", str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            )
        finally:
            os.close(memory)
            theirs.close()
        self._connection = Connection(ours.detach())
        self._connection.send((decoder, short_side, crop, SLOTS))

    def send(self, job: Job) -> None:
        with suppress(OSError):  # it has died; `receive` says so with the video's name
            self._connection.send(job)

    def receive(self, path: Path, decoded: int, timeout_s: float) -> tuple:
        """The next message. Raises DecodeError when the process has died or says nothing for too long."""
        try:
            if self._connection.poll(timeout_s):
                return self._connection.recv()
            what = f"the decoder gave no sign of life for {timeout_s:g} s"
        except (EOFError, OSError):
            what = f"the decoder's process died ({_cause(self.process.wait())})"
        raise DecodeError(f"{path}: {what}, at frame {decoded}", frame=decoded)

    def take(self, slot: int) -> np.ndarray:
        """A copy of a picture; its place in the ring is free again."""
        view = np.frombuffer(self._ring, np.uint8, self._slot_bytes, slot * self._slot_bytes)
        picture = view.reshape(self._shape).copy()
        with suppress(OSError):
            self._connection.send("free")
        return picture

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._connection.close()


def _none(frames: int) -> tuple[int, ...]:
    return ()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name + (", perhaps for want of memory" if -code == signal.SIGKILL else "")
