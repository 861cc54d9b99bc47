"""`gig cluster`: what a dask cluster has to offer to an experiment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pipeline.cli.shared import aligned, ensure, say, with_config, with_json
from pipeline.errors import ClusterError, ConfigError
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import Manifest

if TYPE_CHECKING:
    from pipeline.cluster import Surveyed

__all__ = ["cluster"]

VERSIONS = ("gig-vad", "torch", "numpy", "av")


@click.group()
def cluster() -> None:
    """Work on many machines (docs/cluster.md)."""


@cluster.command()
@with_config
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True, help="Whose videos.")
@click.option(
    "--probe",
    "probe_s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds for which each worker extracts videos, and drops the result, to time it; 0: not at all.",
)
@with_json
def check(recipes: Recipes, split: str, probe_s: float, as_json: bool) -> None:
    """Tell what the cluster of a configuration has: workers, devices, versions, what they reach, and how fast each is.

    Each worker loads the backbone and is compared with this machine as before real work; nothing is written but a mark
    in the cache, for as long as the command runs. Exits with 1 if there is no worker, or one that would get no work.
    """
    from pipeline.stages.common.manifest import load_manifest
    from pipeline.stages.extraction.cluster_check import check_cluster

    experiment = recipes.experiment
    if experiment.machine.engine != "dask":
        raise ConfigError(f"machine.engine: expected dask, got {experiment.machine.engine}")
    ensure(Manifest(recipes))
    manifest = load_manifest(experiment, recipes.manifest_folder)
    found = list(check_cluster(experiment, manifest, split, recipes.namespace(split), probe_s, say))
    bad = [worker for worker in found if worker.problem]
    if as_json:
        click.echo(json.dumps([asdict(worker) for worker in found], indent=1))
    else:
        click.echo("\n".join(_table(found)))
        for worker in bad:
            click.echo(f"{worker.name} on {worker.host}: {worker.problem}")
    if bad or not found:
        raise ClusterError(f"{len(bad)} of {len(found)} worker(s) would get no work" if found else "no worker is there")


def _table(found: Sequence[Surveyed]) -> list[str]:
    """A row per worker."""
    rows = [["worker", "host", "address", "slots", "device", *VERSIONS, "videos", "cache", "frames/s", "works"]]
    for worker in found:
        facts, rate = worker.facts, worker.result
        reached = ["yes" if facts[name] == "reached" else "NO" for name in ("videos", "cache")] if facts else ["-", "-"]
        rows.append(
            [
                worker.name,
                facts.get("host", worker.host),
                worker.address,
                str(worker.slots),
                facts.get("device", "-"),
                *(facts.get(name, "-").split(",")[0] for name in VERSIONS),
                *reached,
                f"{rate.frames_per_s:.0f}" if rate else "-",
                "NO" if worker.problem else "yes",
            ]
        )
    return aligned(rows)
