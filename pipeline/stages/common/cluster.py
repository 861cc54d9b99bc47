"""What a stage tells the workers of a dask cluster, and what they must have in common with the command."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from cache import FeatureStore
from cache.errors import CacheError
from pipeline.cluster import Connection, LocalWorkers, connected
from pipeline.config import Experiment, digest, parse_experiment
from pipeline.config.features import url_scheme
from pipeline.errors import PipelineError
from pipeline.progress import Say
from pipeline.remote import path_of
from pipeline.stages.common.digests import VERSIONS, weights_identity

__all__ = ["REACHED", "Reach", "agreed", "cluster_of", "portable", "reach_of", "torch_threads", "unpacked"]

PACKAGES = ("torch", "numpy", "av")
REACHED = "reached"
AHEAD = 2
"""Tasks that a worker has besides those whose video is being decoded: their features are still being written."""


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
    cache = paths.cache if url_scheme(paths.cache) else str(Path(paths.cache).absolute())
    return experiment.model_copy(
        update={
            "backbone": backbone.model_copy(update=changes),
            "dataset": dataset.model_copy(update=absolute),
            "paths": paths.model_copy(update={"cache": cache}),
        }
    )


def unpacked(document: Mapping[str, Any]) -> Experiment:
    """The experiment that was sent as plain data, `portable(...).model_dump(mode="json")`. Raises ConfigError."""
    return parse_experiment(dict(document), "the configuration sent to a worker")


def agreed(experiment: Experiment) -> dict[str, str]:
    """What the command and all workers must have in common; each asks for itself. Raises WeightsError.

    Builds of one version of torch, for another GPU or none, count as equal.
    """
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in PACKAGES}
    own = f"{importlib.metadata.version('gig-vad')}, stages {digest(VERSIONS)}"
    imported = experiment.features.train and experiment.features.test
    weights = {} if imported else {"weights": weights_identity(experiment.backbone)}
    return {"gig-vad": own} | versions | weights | {"configuration": digest(experiment)}


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
            except (OSError, PipelineError) as error:
                return f"{path}: {error}"
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


def torch_threads(threads: int, neighbours: int) -> None:
    """Let torch use `threads` threads in this process; 0: its share of the cores.

    Left alone where it is the only worker, unless dask, as it does, has told it to use one.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    elif neighbours > 1 or "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // neighbours))
