"""Decoding in worker processes: a video that crashes or hangs its decoder costs that video, not the run.

A worker is a fresh interpreter that imports numpy, PyAV and of our packages only `pipeline.data`: it is not forked, and
does not import the caller's main module. Pictures come back through an anonymous shared-memory ring, messages over a
socket. A worker decodes ahead of its reader as far as the ring reaches, so memory is bounded, and it ends when the
process that made it does.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from multiprocessing.connection import wait
from typing import TypeVar

from pipeline.data.decoding.decode import VideoHeader
from pipeline.data.decoding.geometry import PAPER_CROP, Fit
from pipeline.data.decoding.messages import Job, Settings
from pipeline.data.decoding.opening import MAX_PIXELS
from pipeline.data.decoding.process import Worker
from pipeline.data.decoding.stream import TimesAndPictures, VideoStream
from pipeline.errors import DecodeError, DecoderKilled
from pipeline.remote import AnyPath

__all__ = ["DecodeWorkers", "Job", "VideoStream"]


MOST = 16
ASK_AGAIN_S = 0.1
"""After so many seconds without a frame it is asked again for a job for a free decoder."""
Result = TypeVar("Result")


class DecodeWorkers:
    """Processes that decode videos, each one video at a time. Use it in a `with` block.

    Args:
        count: processes; as many videos are decoded at once. 0 stands for one per core, at most 16.
        timeout_s: seconds without a sign of life after which a decoder counts as hung.
        fit: what is seen of a picture, and at what size.
        max_pixels: how many pixels a picture may have, see `pipeline.data.decoding.opening.limit_pixels`.
        decoder: module with `read_header` and `iter_frames`.
    """

    def __init__(
        self,
        count: int = 0,
        timeout_s: float = 120.0,
        *,
        fit: Fit = PAPER_CROP,
        max_pixels: int = MAX_PIXELS,
        decoder: str = "pipeline.data.decoding.decode",
    ) -> None:
        self.count, self.timeout_s = count or min(MOST, len(os.sched_getaffinity(0))), timeout_s
        self._settings = Settings(decoder, fit, max_pixels)
        self._idle: list[Worker] = []
        self._open: list[VideoStream] = []

    def __enter__(self) -> DecodeWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers():
            worker.kill()
        self._idle, self._open = [], []

    def start(self, processes: int) -> None:
        """Start some processes, `count` at most, while the caller does something else; else they start when needed."""
        while len(self._workers()) < min(processes, self.count):
            self._idle.append(Worker(self._settings))

    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The processes that live."""
        return [worker.process for worker in self._workers()]

    def alone(self) -> DecodeWorkers:
        """A single decoder with the same settings. The idle processes of these end, so that it has their memory."""
        for worker in self._idle:
            worker.kill()
        self._idle = []
        return DecodeWorkers(
            1,
            self.timeout_s,
            fit=self._settings.fit,
            max_pixels=self._settings.max_pixels,
            decoder=self._settings.decoder,
        )

    def readable(self, jobs: Iterable[Job | None]) -> Iterator[tuple[int, VideoStream] | None]:
        """Decode up to `count` videos at once; yield streams that can be read without waiting.

        A stream comes again and again until it is closed; read some of it each time. The oldest goes first: a reader
        slower than the decoders finishes video after video, and a faster one gets what all of them have.

        Args:
            jobs: asked for the next one when a decoder is free. None says that there is none at the moment: it is asked
                again soon.

        Yields:
            The number of the job, from 0, and its stream; None when all are read and there is no job at the moment.
        """
        reading: dict[int, VideoStream] = {}
        jobs, numbers = iter(jobs), count()
        over = False
        try:
            while True:
                patience_s = None
                while len(reading) < self.count and not over:
                    try:
                        job = next(jobs)
                    except StopIteration:
                        over = True
                        break
                    if job is None:
                        patience_s = ASK_AGAIN_S
                        break
                    reading[next(numbers)] = self._start(job)
                if not reading and over:
                    return
                if not reading:
                    yield None
                    continue
                if (number := _first_due(reading, patience_s)) is None:
                    continue
                yield number, reading[number]
                if reading[number].closed:
                    self._settle(reading.pop(number))
        finally:
            for stream in reading.values():
                self._settle(stream)

    def streams(self, jobs: Iterable[Job]) -> Iterator[VideoStream]:
        """One stream per job, in order. The next ones are decoded while one is read; one left unread is cut off."""
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

    def headers(self, paths: Iterable[AnyPath]) -> Iterator[VideoHeader | DecodeError]:
        """The header of every video in order, or why it cannot be read.

        One whose decoder was killed from outside is tried once more, alone.
        """
        for stream in self.streams(Job(path, header_only=True) for path in paths):
            try:
                yield self._tried_twice(stream, _header)
            except DecodeError as error:
                yield error

    def count_frames(self, path: AnyPath) -> int:
        """The number of frames the decoder yields. Raises DecodeError."""
        for stream in self.streams([Job(path, select=_none)]):
            times, _ = self.collect(stream)
            return len(times)
        raise AssertionError("a job has a stream")

    def collect(self, stream: VideoStream) -> TimesAndPictures:
        """Decode a stream to the end; once more, alone, if its decoder was killed from outside. Raises DecodeError."""
        return self._tried_twice(stream, VideoStream.collect)

    def _tried_twice(self, stream: VideoStream, read: Callable[[VideoStream], Result]) -> Result:
        """Read a stream; if the system kills its decoder, as it does when memory runs out, decode it again alone.

        The streams ahead, of which nothing has been read, are stopped meanwhile and begin anew afterwards.
        """
        try:
            return read(stream)
        except DecoderKilled:
            ahead = [other for other in self._open if other.untouched]
            for other in ahead:
                other.worker.kill()
            try:
                with self.alone() as one:
                    for again in one.streams([stream.job]):
                        return read(again)
            finally:
                for other in ahead:
                    other.restart(Worker(self._settings))
            raise

    def _workers(self) -> list[Worker]:
        return self._idle + [stream.worker for stream in self._open]

    def _start(self, job: Job) -> VideoStream:
        worker = self._idle.pop() if self._idle else Worker(self._settings)
        stream = VideoStream(job, worker, self.timeout_s)
        self._open.append(stream)
        return stream

    def _settle(self, stream: VideoStream) -> None:
        if stream not in self._open:
            return  # the `with` block has ended, and every worker with it
        self._open.remove(stream)
        if stream.finished:
            self._idle.append(stream.worker)
        else:
            stream.worker.kill()


def _first_due(streams: dict[int, VideoStream], most_s: float | None = None) -> int | None:
    """The first stream that can be read at once, waiting for one if there is none; None after `most_s` seconds."""
    end = None if most_s is None else time.monotonic() + most_s
    while True:
        patience_s = min(stream.patience_s() for stream in streams.values())
        if end is not None:
            patience_s = min(patience_s, max(0.0, end - time.monotonic()))
        sent = set(wait([stream.worker.connection for stream in streams.values()], patience_s))
        # All are asked: a stream's silence counts from when it was first seen silent.
        due = [number for number, stream in streams.items() if stream.due(stream.worker.connection in sent)]
        if due:
            return due[0]
        if end is not None and time.monotonic() >= end:
            return None


def _header(stream: VideoStream) -> VideoHeader:
    header = stream.header()
    stream.finish()
    return header


def _none(frames: int) -> tuple[int, ...]:
    return ()
