"""Extraction on a worker of a cluster: one loaded backbone that tasks feed, each with one video.

A task hands its video over and waits. One thread extracts all of them together, so that batches are filled from several
videos, and those of tasks that come later join in.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from cache import FeatureStore
from pipeline.cluster import Surroundings
from pipeline.config import Experiment
from pipeline.remote import AnyPath, path_of
from pipeline.stages.common.cards import use_device
from pipeline.stages.common.cluster import Reach, agreed, torch_threads, unpacked
from pipeline.stages.common.manifest import reached
from pipeline.stages.extraction.loop import Extractor
from pipeline.stages.extraction.outcomes import Outcome
from pipeline.stages.extraction.sources import experiment_workers

__all__ = ["BackbonePlace", "Extracted", "ExtractionPlace", "Order"]

TELL_S = 1.0
DECODER = "pipeline.data.decoding.decode"


class _Closed(Exception):
    """The place is closed."""


@dataclass(frozen=True)
class Order:
    """How all videos of a command are extracted.

    Attributes:
        document: the experiment as plain data.
        split: `train` or `test`.
        namespace: where the features go.
        decoder: see `DecodeWorkers`.
        reach: what a worker must reach.
    """

    document: Mapping[str, Any]
    split: str
    namespace: str
    decoder: str
    reach: Reach

    def __call__(self, around: Surroundings) -> BackbonePlace:
        """Open a place for it."""
        return ExtractionPlace(self, around)


@dataclass(frozen=True)
class Extracted:
    """What a task returns: facts, never features.

    Attributes:
        outcome: of the video.
        said: what the user should know.
    """

    outcome: Outcome
    said: tuple[str, ...]


class BackbonePlace:
    """A place with a loaded backbone; see `pipeline.cluster.Place`.

    Attributes:
        order: what it was opened for.
        around: its worker.
        experiment: settings.
        extractor: the backbone.

    Raises:
        PipelineError: the backbone cannot be loaded, or not onto the device.
    """

    def __init__(self, order: Order, around: Surroundings) -> None:
        self.order, self.around, self.experiment = order, around, unpacked(order.document)
        torch_threads(self.experiment.machine.threads, around)
        with ExitStack() as stack:
            device = stack.enter_context(use_device(self.experiment.machine.device, self.say))
            self.extractor = Extractor(self.experiment, say=self.say, device=device)
            self._held = stack.pop_all()

    def facts(self) -> dict[str, str]:
        """What this worker has and reaches."""
        engine = self.extractor.engine
        card = torch.cuda.get_device_name(engine.device) if engine.device.type == "cuda" else "CPU"
        about = {"host": socket.gethostname(), "device": card, "precision": self.extractor.precision}
        return agreed(self.experiment) | self.order.reach.facts() | about

    def say(self, message: str) -> None:
        """Take a message that the user should read."""

    def do(self, argument: Any) -> Any:
        """Do a task; what it is, subclasses say."""
        raise NotImplementedError(type(self).__name__)

    def close(self) -> None:
        """Let go of the backbone and its card."""
        del self.extractor
        self._held.close()


class ExtractionPlace(BackbonePlace):
    """A place that extracts the videos of tasks, all in one thread."""

    def __init__(self, order: Order, around: Surroundings) -> None:
        self._said: list[str] = []
        super().__init__(order, around)
        self._videos: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._waiting: dict[str, Future[Extracted]] = {}
        self._frames: dict[str, int] = {}
        self._told = 0.0
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="extraction", daemon=True)
        self._thread.start()

    def do(self, argument: tuple[str, str]) -> Extracted:
        """Extract a video, (id, path), and commit it.

        Raises:
            CacheError: the cache cannot be written.
        """
        video_id, path = argument
        with self._lock:
            if self._failure:
                raise self._failure
            outcome = self._waiting.get(video_id)
            if outcome is None:  # else a task that was given up is still at it: both get its outcome
                outcome = self._waiting[video_id] = Future()
                self._videos.put((video_id, path))
        return outcome.result()

    def close(self) -> None:
        """Give up the videos in progress and let go of the backbone."""
        self._fail(_Closed("the command has ended"))
        self._videos.put(None)
        self._thread.join(20)
        super().close()

    def _work(self) -> None:
        order, machine = self.order, self.experiment.machine
        decoders = machine.decode_workers or min(16, max(1, len(os.sched_getaffinity(0)) // self.around.neighbours))
        experiment = _with_decoders(self.experiment, max(1, min(decoders, self.around.slots)))
        store = FeatureStore.open(experiment.paths.cache)
        try:
            with experiment_workers(experiment, order.decoder) as workers:
                workers.start(workers.count)
                for outcome in self.extractor.extract_once(
                    self._given(), order.split, store, order.namespace, workers, self.say, self._watch
                ):
                    self._end(outcome)
        except BaseException as error:  # every task that waits raises it
            self._fail(error)

    def _given(self) -> Iterator[tuple[str, AnyPath] | None]:
        """The videos that tasks have brought; None when there is no other one while some are in progress."""
        in_progress: set[str] = set()
        while True:
            in_progress &= self._waiting.keys()
            try:
                video = self._videos.get(block=not in_progress)
            except queue.Empty:
                yield None
                continue
            if video is None:
                raise _Closed
            in_progress.add(video[0])
            yield video[0], reached(path_of(video[1]), self.experiment)

    def _end(self, outcome: Outcome) -> None:
        said, self._said = tuple(self._said), []
        self._frames.pop(outcome.video_id, None)
        with self._lock:
            waiting = self._waiting.pop(outcome.video_id)
        waiting.set_result(Extracted(outcome, said))

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(error)

    def say(self, message: str) -> None:
        """Keep a message for the outcome of a video."""
        self._said.append(message)

    def _watch(self, video_id: str, frames: int) -> None:
        if self._failure:
            raise _Closed
        self._frames[video_id] = frames
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            self.around.tell({"frames": dict(self._frames)})


def _with_decoders(experiment: Experiment, count: int) -> Experiment:
    machine = experiment.machine.model_copy(update={"decode_workers": count})
    return experiment.model_copy(update={"machine": machine})
