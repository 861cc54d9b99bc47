"""Features on their way into the cache, written behind the model by a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np

from cache import FeatureWriter
from pipeline.stages.extraction.engine import Maps

__all__ = ["VideoSink", "WriteBehind"]


class WriteBehind:
    """One thread that makes the calls it is given, in order. Use it in a `with` block.

    Args:
        waiting: calls that may wait for the thread; who submits one more waits too.
    """

    def __init__(self, waiting: int = 4) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._room = threading.BoundedSemaphore(waiting)

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)

    def submit(self, work: Callable[..., None], *arguments: object) -> None:
        """Queue a call that raises nothing."""
        self._room.acquire()

        def run() -> None:
            try:
                work(*arguments)
            finally:
                self._room.release()

        self._pool.submit(run)


class VideoSink:
    """Writes one video's features: maps as they come, then the commit, or nothing at all.

    Args:
        video_id: which video.
        writer: opened for the video.
        averaged: clips per segment; their maps are averaged.
        behind: the thread that writes.
        empty: gives the cells that show nothing of the video, (H, W) bool: their features are 0. None if there are
            none. Called once frames have come.

    Attributes:
        queued: clips whose maps will come; the caller counts them.
        error: why the video could not be extracted; None as long as nothing went wrong.
        frames: decoded frames, once `finish` was called.
        loss: what damage has cost the video, in words; None for a whole one.
        settled: set when the video is committed or given up.
    """

    def __init__(
        self,
        video_id: str,
        writer: FeatureWriter,
        averaged: int,
        behind: WriteBehind,
        empty: Callable[[], np.ndarray] | None = None,
    ) -> None:
        self.video_id, self.queued, self.frames = video_id, 0, 0
        self.error: BaseException | None = None
        self.loss: str | None = None
        self.settled = threading.Event()
        self._writer, self._averaged, self._behind, self._empty = writer, averaged, behind, empty
        self._received = 0
        self._parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._provenance: Callable[[], Mapping[str, Any]] | None = None
        self._times_s = np.empty(0)

    def take(self, view: int, maps: Maps, rows: slice, indices: np.ndarray) -> None:
        """Write the maps of a view's next clips.

        Args:
            view: which view.
            maps: those of a batch.
            rows: the view's clips in it.
            indices: (n, L), their frame numbers.
        """
        self._received += len(indices)
        self._behind.submit(self._append, view, maps, rows, indices)
        self._commit_when_complete()

    def finish(self, times_s: np.ndarray, provenance: Callable[[], Mapping[str, Any]]) -> None:
        """All clips are queued; the video is committed when their maps have come.

        Args:
            times_s: presentation times of all decoded frames.
            provenance: gives the facts for the commit record.
        """
        self.frames, self._times_s, self._provenance = len(times_s), times_s, provenance
        self._commit_when_complete()

    def give_up(self, error: BaseException) -> None:
        """Write nothing of the video."""
        self._behind.submit(self._settle, error)

    def _commit_when_complete(self) -> None:
        if self._provenance and self._received == self.queued:
            self._behind.submit(self._settle)

    def _append(self, view: int, batch: Maps, rows: slice, indices: np.ndarray) -> None:
        if self.error:
            return
        try:
            self._write(view, batch.numpy()[rows], indices)
        except Exception as error:  # handed on, as by `_settle`
            self.error = error

    def _write(self, view: int, maps: np.ndarray, indices: np.ndarray) -> None:
        parts = self._parts.setdefault(view, [])
        parts.append((maps, indices))
        count = sum(len(part) for part, _ in parts) // self._averaged
        if not count:
            return
        maps = np.concatenate([part for part, _ in parts])
        indices = np.concatenate([numbers for _, numbers in parts])
        whole = count * self._averaged
        self._parts[view] = [(maps[whole:], indices[whole:])] if whole < len(maps) else []
        maps = maps[:whole].reshape(count, self._averaged, *maps.shape[1:])
        if self._empty:
            maps[:, :, self._empty()] = 0
        self._writer.append(
            view, maps[:, 0] if self._averaged == 1 else maps.mean(axis=1), indices[:whole].reshape(count, -1)
        )

    def _settle(self, error: BaseException | None = None) -> None:
        """Commit the video, unless there is an error; without a commit the writer leaves nothing."""
        if self.settled.is_set():
            return
        self.error = self.error or error
        try:
            with self._writer:
                if self.error is None:
                    assert self._provenance is not None  # only a video that is finished is settled without an error
                    self._writer.set_times(self._times_s)
                    self._writer.commit(self._provenance())
        except Exception as failure:  # handed on: whoever waits for the video raises it
            self.error = self.error or failure
        finally:
            self.settled.set()
