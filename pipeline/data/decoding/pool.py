"""Decoding in worker processes: a video that crashes or hangs its decoder costs that video, not the run.

A worker is a fresh interpreter that imports numpy and PyAV and nothing of ours beyond `pipeline.data`: it is not
forked, and does not import the caller's main module. Pictures come back through an anonymous shared-memory ring, words
over a socket. A worker decodes ahead of its reader as far as the ring reaches, so memory is bounded, and ends when the
process that made it does.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

from pipeline.data.decoding.decode import VideoHeader
from pipeline.data.decoding.opening import MAX_PIXELS
from pipeline.data.decoding.stream import Job, Pictures, VideoStream, Worker
from pipeline.errors import DecodeError, DecoderKilled

__all__ = ["DecodeWorkers", "Job", "VideoStream"]


MOST = 16
Result = TypeVar("Result")


class DecodeWorkers:
    """Worker processes that decode videos, each one video at a time. Use it in a `with` block.

    Args:
        count: processes; as many videos are decoded at once. 0 stands for one a core, 16 at most.
        timeout_s: seconds without a sign of life after which a decoder counts as hung.
        short_side: shorter side after resizing, pixels.
        crop: side of the centre crop, pixels.
        max_pixels: how many a picture may have, see `pipeline.data.decoding.opening.limit_pixels`.
        decoder: module with `read_header` and `iter_frames`.
    """

    def __init__(
        self,
        count: int = 0,
        timeout_s: float = 120.0,
        *,
        short_side: int = 256,
        crop: int = 224,
        max_pixels: int = MAX_PIXELS,
        decoder: str = "pipeline.data.decoding.decode",
    ) -> None:
        self.count, self.timeout_s = count or min(MOST, len(os.sched_getaffinity(0))), timeout_s
        self._options = (decoder, short_side, crop, max_pixels)
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []

    def __enter__(self) -> DecodeWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._idle + self._busy:
            worker.kill()
        self._idle, self._busy = [], []

    def start(self, processes: int) -> None:
        """Have some processes, `count` at most, come to life while the caller does something else; else they start when
        needed."""
        while len(self._idle) + len(self._busy) < min(processes, self.count):
            self._idle.append(Worker(*self._options))

    def processes(self) -> list[subprocess.Popen]:
        """The processes that live."""
        return [worker.process for worker in self._idle + self._busy]

    def alone(self) -> DecodeWorkers:
        """One decoder as these are; the idle ones of these end, so that it has the memory for itself."""
        for worker in self._idle:
            worker.kill()
        self._idle = []
        decoder, short_side, crop, max_pixels = self._options
        return DecodeWorkers(
            1, self.timeout_s, short_side=short_side, crop=crop, decoder=decoder, max_pixels=max_pixels
        )

    def readable(self, jobs: Iterable[Job]) -> Iterator[tuple[int, VideoStream]]:
        """Of up to `count` streams at once, those that can be read without waiting, with the number of their job, from
        0.

        A stream comes again and again, until it is closed; read some of it each time. The oldest goes first: a reader
        slower than the decoders finishes video after video, and one that is faster gets what all of them have.
        """
        under_way: dict[int, VideoStream] = {}
        numbered = enumerate(jobs)
        try:
            while True:
                while len(under_way) < self.count and (item := next(numbered, None)) is not None:
                    under_way[item[0]] = self._start(item[1])
                if not under_way:
                    return
                number = _first_due(under_way)
                yield number, under_way[number]
                if under_way[number].closed:
                    self._settle(under_way.pop(number))
        finally:
            for stream in under_way.values():
                self._settle(stream)

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
        """The header of every video in order, or why it cannot be read. One whose decoder was killed is tried once
        more."""
        for stream in self.streams(Job(path, header_only=True) for path in paths):
            try:
                yield self._tried_twice(stream, _header)
            except DecodeError as error:
                yield error

    def count_frames(self, path: Path) -> int:
        """The number of frames the decoder yields. Raises DecodeError."""
        for stream in self.streams([Job(path, select=_none)]):
            return len(self.collect(stream)[0])
        raise AssertionError("a job has a stream")

    def collect(self, stream: VideoStream) -> Pictures:
        """As `VideoStream.collect`; tries once more where the decoder was killed from outside."""
        return self._tried_twice(stream, VideoStream.collect)

    def _tried_twice(self, stream: VideoStream, read: Callable[[VideoStream], Result]) -> Result:
        try:
            return read(stream)
        except DecoderKilled:
            with self.alone() as one:
                for again in one.streams([stream.job]):
                    return read(again)
            raise

    def _start(self, job: Job) -> VideoStream:
        worker = self._idle.pop() if self._idle else Worker(*self._options)
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


def _first_due(streams: dict[int, VideoStream]) -> int:
    """The first stream that can be read at once, waiting for one if there is none."""
    while True:
        patience_s = min(stream.patience_s() for stream in streams.values())
        sent = set(wait([stream.worker.connection for stream in streams.values()], patience_s))
        # All are asked: a stream's silence counts from when it was first seen silent.
        due = [number for number, stream in streams.items() if stream.due(stream.worker.connection in sent)]
        if due:
            return due[0]


def _header(stream: VideoStream) -> VideoHeader:
    header = stream.header()
    stream.finish()
    return header


def _none(frames: int) -> tuple[int, ...]:
    return ()
