"""A dask cluster whose workers are threads of the test's process, and experiments that use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.config import Experiment


@contextmanager
def cluster(workers: int = 2, slots: int = 2, resource: str = "video") -> Iterator[Any]:
    """A scheduler with workers."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers,
        threads_per_worker=slots,
        processes=False,
        protocol="tcp://",
        dashboard_address=None,
        resources={resource: slots},
    ) as local:
        yield local


def on_dask(experiment: Experiment, **machine: object) -> Experiment:
    """The experiment with `machine.engine: dask` and other settings of the machine."""
    changed = experiment.machine.model_copy(update={"engine": "dask", "decode_workers": 2} | machine)
    return experiment.model_copy(update={"machine": changed})
