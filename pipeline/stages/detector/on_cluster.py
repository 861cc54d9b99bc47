"""Files scored with a detector on the workers of a dask cluster: each loads it once, and the scores come back."""

from __future__ import annotations

import importlib.metadata
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipeline.cluster import Finished, Surroundings, Task, WorkerKilled, run_tasks
from pipeline.config import digest
from pipeline.config.machine import Machine
from pipeline.errors import DecodeError, DecoderKilled
from pipeline.progress import Say
from pipeline.stages.common.cluster import PACKAGES, REACHED, cluster_of, torch_threads
from pipeline.stages.common.digests import VERSIONS
from pipeline.stages.scoring.scorer import ScoredElsewhere, ScoreElsewhere

if TYPE_CHECKING:
    from pipeline.stages.detector.detector import Detector

__all__ = ["DetectorOrder", "cluster_scoring"]

LOOKED_AT = 3


@dataclass(frozen=True)
class DetectorOrder:
    """What workers are told.

    Attributes:
        detector: path of the detector's file, and of the backbone's weights where it does not hold them.
        weights: see above.
        machine: the section `machine` as plain data.
        videos: some of the videos, with their sizes, that a worker must reach.
    """

    detector: str
    weights: str | None
    machine: Mapping[str, Any]
    videos: tuple[tuple[str, int], ...]

    def __call__(self, around: Surroundings) -> DetectorPlace:
        """Open a place for it."""
        return DetectorPlace(self, around)


class DetectorPlace:
    """See `pipeline.cluster.Place`. One video at a time: tasks wait for each other.

    Raises:
        DetectorError: the file is not there, or no detector.
        WeightsError: the backbone's weights are not there, or others.
    """

    def __init__(self, order: DetectorOrder, around: Surroundings) -> None:
        from pipeline.stages.detector.detector import Detector

        self._order, self._lock = order, threading.Lock()
        machine = Machine.model_validate(dict(order.machine))
        torch_threads(machine.threads, around)
        self._detector = Detector.load(order.detector, weights=order.weights, machine=machine)

    def facts(self) -> dict[str, str]:
        """What this worker has and reaches."""
        about = {"host": socket.gethostname(), "videos": self._reached()}
        return expected_of(self._detector) | about

    def do(self, argument: tuple[str, str]) -> ScoredElsewhere:
        """Score a video, (name, path)."""
        name, path = argument
        said: list[str] = []
        with self._lock:
            found = self._detector.outcome(name, Path(path), said.append)
        return ScoredElsewhere(name, found.scores, found.origin, found.outcome.error, tuple(said))

    def close(self) -> None:
        """Nothing is held that would not go by itself."""

    def _reached(self) -> str:
        for name, size in self._order.videos:
            path = Path(name)
            if not path.exists():
                return f"{path} is not there"
            if path.is_file() and path.stat().st_size != size:
                return f"{path} has {path.stat().st_size} bytes in place of {size}"
        return REACHED


def expected_of(detector: Detector) -> dict[str, str]:
    """What the command and its workers must have in common."""
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in PACKAGES}
    own = f"{importlib.metadata.version('gig-vad')}, stages {digest(VERSIONS)}"
    return {"gig-vad": own, "detector": detector.seal} | versions


@contextmanager
def cluster_scoring(detector: Detector, order: DetectorOrder, say: Say) -> Iterator[ScoreElsewhere]:
    """During the block a function that scores (name, path) of files.

    Args:
        detector: what scores.
        order: the same for workers.
        say: told what the user should know.

    Raises:
        ConfigError: dask.distributed is not installed.
        ClusterError: there is no scheduler, or no worker that can do the work.
    """
    with cluster_of(detector.experiment, say) as connection:
        expected = expected_of(detector) | {"videos": REACHED}

        def killed(result: ScoredElsewhere) -> bool:
            if isinstance(result.error, DecoderKilled):
                say(f"{result.name} is tried again, alone on a worker: {result.error}")
                return True
            return False

        # The tag: of two commands at once each scores its own files, whatever their names.
        tag = uuid4().hex[:8]

        def score(files: Iterable[tuple[str, Path]]) -> Iterator[ScoredElsewhere]:
            tasks = (Task(f"gig-{tag}/{detector.seal}/{name}", (name, str(path.absolute()))) for name, path in files)
            for finished in run_tasks(connection, order, expected, tasks, again_alone=killed, say=say):
                yield _scored(finished, say)

        yield score


def some_files(files: Sequence[Path]) -> tuple[tuple[str, int], ...]:
    """Path and bytes of a few files, spread over them."""
    chosen = [path.absolute() for path in files[:: max(1, len(files) // LOOKED_AT)][:LOOKED_AT]]
    return tuple((str(path), path.stat().st_size if path.is_file() else 0) for path in chosen if path.exists())


def _scored(finished: Finished, say: Say) -> ScoredElsewhere:
    name, path = finished.task.argument
    if isinstance(finished.error, WorkerKilled):
        return ScoredElsewhere(name, None, {}, DecodeError(f"{path}: scoring it {finished.error}"), ())
    if finished.error is not None:
        finished.error.add_note(f"{name}, on worker {finished.worker} of the cluster")
        raise finished.error
    result: ScoredElsewhere = finished.result
    for message in result.said:
        say(message)
    return result
