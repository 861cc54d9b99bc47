"""The connection to a dask scheduler, or a cluster on this machine that lives as long as its `with` block."""

from __future__ import annotations

import http.client
import importlib.util
import logging
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Connection", "LocalWorkers", "briefly", "connected"]

LOGGERS = ("distributed", "distributed.client", "distributed.worker", "distributed.nanny", "distributed.scheduler")
ANSWER_S, ASK_AGAIN_S = 10.0, 0.2
"""For so long one question to the scheduler may take, and the pause after one that was not answered."""
SPAWNING = ("PYTHONHASHSEED",)
"""Variables that dask sets in this process for those that it starts."""


@dataclass(frozen=True)
class LocalWorkers:
    """The workers of a cluster on this machine.

    Attributes:
        environments: one per worker: variables that it gets besides those of this process.
        slots: tasks that each of them does at once.
    """

    environments: Sequence[Mapping[str, str]]
    slots: int


@dataclass(frozen=True)
class Connection:
    """A scheduler that answers.

    Attributes:
        client: of dask.
        scheduler: its address.
        resource: which workers must offer, one for each task that they do at once.
        wait_s: for how long there may be no worker, seconds.
        grows: whether workers can come that are not there yet.
        dashboard: address of the page that shows what goes on; None without one.
    """

    client: Client
    scheduler: str
    resource: str
    wait_s: float
    grows: bool
    dashboard: str | None

    def workers(self) -> dict[str, dict[str, Any]]:
        """What the scheduler knows of its workers, by address.

        One that does not answer is asked again for `wait_s`, and for one question at least: the machine may have much
        to do besides. A connection that is closed is lost at once.

        Raises:
            ClusterError: it is lost, or does not answer.
        """
        until = time.monotonic() + max(self.wait_s, ANSWER_S)
        while True:
            self.check()
            try:
                asked = self.client.scheduler
                known = self.client.sync(asked.identity, n_workers=-1, callback_timeout=ANSWER_S) if asked else None
            except (OSError, TimeoutError) as error:  # dask's own are OSError
                if time.monotonic() >= until:
                    raise ClusterError(self._lost(f", or it has not answered for {self.wait_s:g} s")) from error
                time.sleep(ASK_AGAIN_S)
                continue
            if known is None:
                raise ClusterError(self._lost())
            workers: dict[str, dict[str, Any]] = known["workers"]
            return workers

    def check(self) -> None:
        """Raise ClusterError when the connection is lost."""
        if self.client.status != "running":
            raise ClusterError(self._lost())

    def _lost(self, silent: str = "") -> str:
        return (
            f"{self.scheduler}: the connection to the dask scheduler is lost{silent}; what is finished is kept, and "
            "the same command goes on with the rest once a scheduler is there"
        )


@contextmanager
def connected(
    scheduler: str | None, resource: str, wait_s: float, local: Callable[[], LocalWorkers]
) -> Iterator[Connection]:
    """A connection during the block.

    Args:
        scheduler: its address; None starts one here, with workers.
        resource: that workers must offer.
        wait_s: how long to wait for the scheduler, and later for workers, seconds.
        local: tells which workers to start here; asked only without `scheduler`.

    Raises:
        ConfigError: dask.distributed is not installed.
        ClusterError: the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            f"machine.engine: dask needs dask.distributed: pip install 'gig-vad[cluster]' ({error})"
        ) from error
    with ExitStack() as stack:
        _silence()
        address = scheduler or stack.enter_context(_local_cluster(resource, local()))
        try:
            client = Client(address, timeout=wait_s, set_as_default=False, name="gig")
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"{address}: no dask scheduler answers within machine.cluster_wait_s = {wait_s:g} s ({error})"
            ) from error
        stack.callback(briefly, client.close, 1)
        yield Connection(client, address, resource, wait_s, scheduler is not None, _page(client))


@contextmanager
def _local_cluster(resource: str, workers: LocalWorkers) -> Iterator[str]:
    """A cluster of processes that end with this one; gives the address of its scheduler."""
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    before = {name: os.environ.get(name) for name in SPAWNING}
    slots = workers.slots
    options = {
        "nthreads": slots,
        "resources": {resource: slots},
        "memory_limit": 0,  # most of what a worker holds is not dask's, which would pause or kill it for it
        "dashboard": False,
        "host": "127.0.0.1",
        "silence_logs": logging.CRITICAL,
    }
    # Without these settings dask gives every process one thread for arithmetic.
    with dask.config.set({"distributed.nanny.pre-spawn-environ": {}, "distributed.worker.daemon": True}):
        cluster = SpecCluster(
            workers={
                number: {"cls": Nanny, "options": options | {"env": dict(environment)}}
                for number, environment in enumerate(workers.environments)
            },
            scheduler={
                "cls": Scheduler,
                "options": {"host": "127.0.0.1", "dashboard": _has_bokeh(), "dashboard_address": "127.0.0.1:0"},
            },
            silence_logs=False,
            shutdown_on_close=False,  # it is closed here, and need not be at the end of the process
        )
    try:
        yield cluster.scheduler_address
    finally:
        for nanny in cluster.workers.values():  # asked to end, a worker with a video in progress takes its time
            nanny.auto_restart = False
            with suppress(OSError, TypeError):  # it has none, or no longer
                os.kill(nanny.pid, signal.SIGKILL)
        briefly(cluster.close, 3)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _page(client: Client) -> str | None:
    """Address of the scheduler's page if it is there for this machine; without bokeh the scheduler has none."""
    if "dashboard" not in client.scheduler_info(n_workers=0)["services"]:
        return None
    address: str = client.dashboard_link
    try:
        with urllib.request.urlopen(address, timeout=2):
            return address
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _has_bokeh() -> bool:
    return importlib.util.find_spec("bokeh") is not None


def briefly(call: Callable[..., object], seconds: float) -> None:
    """Make a call that may fail or hang, and go on after some seconds at the latest."""

    def tried() -> None:
        try:
            call()
        except Exception as error:
            logging.getLogger(__name__).debug("%s: %s", call, error)

    thread = threading.Thread(target=tried, daemon=True)
    thread.start()
    thread.join(seconds)


def _silence() -> None:
    """Silence dask's loggers for good, since it closes in the background; what matters is said by the callers."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
