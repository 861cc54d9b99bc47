"""What a stage tells the workers of a dask cluster, and what they must have in common with the command."""

from __future__ import annotations

import importlib.metadata
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cache import FeatureStore
from cache.errors import CacheError
from pipeline.cluster import Connection, LocalWorkers, Surroundings, Task, WorkerKilled, connected, run_tasks
from pipeline.config import Experiment, digest, parse_experiment
from pipeline.config.mirrors import url_scheme
from pipeline.errors import ClusterError, PipelineError
from pipeline.models.source_code import code_sha256
from pipeline.progress import Say
from pipeline.remote import path_of
from pipeline.stages.common.digests import VERSIONS, weights_identity
from pipeline.stages.common.outputs import fetch_folder

__all__ = [
    "REACHED",
    "Reach",
    "VideoOrder",
    "Work",
    "agreed",
    "cluster_of",
    "each_video",
    "on_cluster",
    "portable",
    "reach_of",
    "torch_threads",
    "unpacked",
]

PACKAGES = ("torch", "numpy", "av")
REACHED = "reached"
AHEAD = 2
"""Tasks that a worker has besides those whose video is being decoded: their features are still being written."""


Work = Callable[[Any], Any]
"""What is done with one video; its argument and its result travel, so they are small."""


def on_cluster(experiment: Experiment) -> bool:
    """Whether the workers of a cluster do the work on single videos."""
    return experiment.machine.engine == "dask"


@contextmanager
def cluster_of(experiment: Experiment, say: Say) -> Iterator[Connection]:
    """The cluster of an experiment's settings during the block; says its address.

    Raises:
        ConfigError: dask.distributed is not installed.
        ClusterError: the scheduler does not answer.
    """
    machine = experiment.machine
    with connected(
        machine.scheduler, machine.cluster_resource, machine.cluster_wait_s, lambda: _local_workers(experiment)
    ) as connection:
        page = f", dashboard {connection.dashboard}" if connection.dashboard else ""
        say(f"working on the dask cluster {connection.scheduler}{page}")
        yield connection


def _local_workers(experiment: Experiment) -> LocalWorkers:
    """One worker per GPU, or else one: the backbone uses all cores as it is."""
    import torch

    machine = experiment.machine
    cards = []
    if machine.device in ("auto", "cuda") and torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        cards = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    count = machine.cluster_workers or max(1, len(cards))
    environments = [{"CUDA_VISIBLE_DEVICES": cards[number % len(cards)]} if cards else {} for number in range(count)]
    cores = len(os.sched_getaffinity(0))
    return LocalWorkers(environments, (machine.decode_workers or max(1, min(16, cores // count))) + AHEAD)


def portable(experiment: Experiment) -> Experiment:
    """The same settings for machines with another working folder and another device: no relative path, no `auto`.

    The number format of `backbone.precision: auto` is the one that this machine would choose, since it is part of the
    name under which features are cached.
    """
    from pipeline.stages.common.device import choose_precision, pick_device

    backbone, dataset, paths = experiment.backbone, experiment.dataset, experiment.paths
    changes: dict[str, object] = {}
    if backbone.weights not in ("bundled", "random"):
        changes["weights"] = str(Path(backbone.weights).absolute())
    if backbone.precision == "auto":
        changes["precision"] = choose_precision(backbone.precision, pick_device(experiment.machine.device))
    root = getattr(dataset, "root", None)
    absolute = {"root": root.absolute()} if isinstance(root, Path) else {}
    copies = experiment.machine.video_copies
    machine = experiment.machine.model_copy(update={"video_copies": copies.absolute() if copies else None})
    cache = paths.cache if url_scheme(paths.cache) else str(Path(paths.cache).absolute())
    return experiment.model_copy(
        update={
            "backbone": backbone.model_copy(update=changes),
            "dataset": dataset.model_copy(update=absolute),
            "machine": machine,
            "paths": paths.model_copy(update={"cache": cache}),
        }
    )


def unpacked(document: Mapping[str, Any]) -> Experiment:
    """The experiment that was sent as plain data, `portable(...).model_dump(mode="json")`.

    Fine-tuned weights that are stored at a URL come to this machine, to the same path as on that of the command.

    Raises:
        ConfigError: it is of another version.
        CacheError, OutputError: weights that are stored at a URL cannot be brought here.
    """
    experiment = parse_experiment(dict(document), "the configuration sent to a worker")
    fetch_folder(Path(experiment.backbone.weights).parent)
    return experiment


def agreed(experiment: Experiment) -> dict[str, str]:
    """What the command and all workers must have in common; each asks for itself. Raises WeightsError.

    Builds of one version of torch, for another GPU or none, count as equal.
    """
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in PACKAGES}
    if experiment.backbone.family == "timm":  # its version decides sizes and how positions are interpolated
        versions["timm"] = _version("timm")
    own = f"{importlib.metadata.version('gig-vad')}, stages {digest(VERSIONS)}"
    imported = experiment.features.train and experiment.features.test
    backbone = {} if imported else {"weights": weights_identity(experiment.backbone)}
    if not imported and (code := code_sha256(experiment.backbone)):
        backbone["code of the backbone"] = code
    return {"gig-vad": own} | versions | backbone | {"configuration": digest(experiment)}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@dataclass(frozen=True)
class Reach:
    """What a worker must reach: the same cache, to read and to write, and some of the videos.

    Attributes:
        cache: its folder or URL.
        mark: an object in it that the command has written.
        videos: paths, and bytes of those that are files.
    """

    cache: str
    mark: str
    videos: tuple[tuple[str, int], ...] = ()

    def facts(self) -> dict[str, str]:
        """Whether this process reaches both; else why not."""
        return {"cache": self._cache(), "videos": self._videos()}

    def _cache(self) -> str:
        objects, own = FeatureStore.open(self.cache).objects, f"{self.mark}-{uuid4().hex}"
        try:
            objects.read(self.mark)
            objects.write_whole(own, b"", beside=f"{own}.new")
            objects.remove(own)
        except FileNotFoundError:
            return f"{self.cache} is not the cache of the command, or is not shared"
        except (CacheError, OSError) as error:
            return str(error)
        return REACHED

    def _videos(self) -> str:
        for name, size in self.videos:
            path = path_of(name)
            try:
                if path.is_file() and path.stat().st_size != size:
                    return f"{path} has {path.stat().st_size} bytes in place of {size}"
                if not path.exists():
                    return f"{path} is not there"
            except (PipelineError, OSError) as error:
                return str(error) if isinstance(error, PipelineError) else f"{path}: {error}"
        return REACHED


@contextmanager
def reach_of(experiment: Experiment, namespace: str, videos: tuple[tuple[str, int], ...] = ()) -> Iterator[Reach]:
    """What workers must reach, during the block; the mark lies in the namespace.

    Raises CacheError if the command itself cannot write to the cache.
    """
    mark = f"{namespace}/reach-{uuid4().hex}"
    objects = FeatureStore.open(experiment.paths.cache).objects
    objects.write_whole(mark, b"", beside=f"{mark}.new")
    try:
        yield Reach(experiment.paths.cache, mark, videos)
    finally:
        objects.remove(mark)


def torch_threads(threads: int, around: Surroundings) -> None:
    """Let torch use `threads` threads in this process; 0: this worker's share of the cores.

    Left alone where there is one worker, unless dask has told it to use one thread.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    elif around.neighbours > 1 or around.limited:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // around.neighbours))


@dataclass(frozen=True)
class VideoOrder:
    """Work on cached features of single videos, as workers are told of it.

    Attributes:
        document: the experiment as plain data.
        reach: what a worker must reach; None for work that needs no cache.
        make: called once per worker with the experiment and the cache; returns what is done with a video. Picklable.
    """

    document: Mapping[str, Any]
    reach: Reach | None
    make: Callable[[Experiment, FeatureStore], Work]

    def __call__(self, around: Surroundings) -> _VideoPlace:
        """Open a place for it."""
        return _VideoPlace(self, around)


class _VideoPlace:
    """See `pipeline.cluster.Place`."""

    def __init__(self, order: VideoOrder, around: Surroundings) -> None:
        self._order, self._experiment = order, unpacked(order.document)
        torch_threads(self._experiment.machine.threads, around)
        self._work = order.make(self._experiment, FeatureStore.open(self._experiment.paths.cache))

    def facts(self) -> dict[str, str]:
        """What this worker has and reaches."""
        reached = self._order.reach.facts() if self._order.reach else {}
        return agreed(self._experiment) | reached | {"host": socket.gethostname()}

    def do(self, argument: Any) -> Any:
        """Work on a video."""
        return self._work(argument[1])

    def close(self) -> None:
        """Nothing is held that would not go by itself."""


def each_video(
    experiment: Experiment,
    namespace: str,
    make: Callable[[Experiment, FeatureStore], Work],
    arguments: Iterable[tuple[str, Any]],
    say: Say,
    *,
    cached: bool = True,
) -> Iterator[tuple[str, Any]]:
    """Work on single videos, or their cached features, on the workers of the experiment's cluster.

    Args:
        experiment: settings.
        namespace: of the features; names the tasks.
        make: see `VideoOrder`.
        arguments: video id, and what is sent; long videos should come first.
        say: told what the user should know.
        cached: whether the work is on cached features, which workers must reach.

    Yields:
        The video's id and the result, when it is there.

    Raises:
        ConfigError: dask.distributed is not installed.
        ClusterError: there is no scheduler or no worker that can do the work, or a video has killed two workers.
    """
    sent, tag = portable(experiment), uuid4().hex[:8]
    with ExitStack() as stack:
        reach = stack.enter_context(reach_of(sent, namespace)) if cached else None
        connection = stack.enter_context(cluster_of(experiment, say))
        order = VideoOrder(sent.model_dump(mode="json"), reach, make)
        expected = agreed(sent) | ({"cache": REACHED} if cached else {})
        # The tag: features can be read for two purposes at once, but are written for one. It comes first, behind a -,
        # because a scheduler keeps statistics by what stands before that.
        tasks = (Task(f"gig-{tag}/{namespace}/{video_id}", (video_id, argument)) for video_id, argument in arguments)
        for finished in run_tasks(connection, order, expected, tasks, say=say):
            video_id = finished.task.argument[0]
            if isinstance(finished.error, WorkerKilled):
                raise ClusterError(f"{namespace}/{video_id}: working on it {finished.error}")
            if finished.error is not None:
                finished.error.add_note(f"{video_id}, on worker {finished.worker} of the cluster")
                raise finished.error
            yield video_id, finished.result
