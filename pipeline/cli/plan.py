"""`gig plan`: what an experiment will take, before anything is extracted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.shared import aligned, ensure, say, with_config
from pipeline.errors import ManifestError
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import Manifest

if TYPE_CHECKING:
    from pipeline.stages.extraction.plan import Rate, SplitPlan

__all__ = ["plan"]

SPLITS = ("train", "test")
GB = 1e9


@click.command()
@with_config
@click.option(
    "--probe",
    "probe_s",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    help="Seconds for which videos of the experiment are extracted, and dropped, to time this machine; 0: not at all.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 4),
    show_default=True,
    help="Numbers of machines like this one for which hours are printed.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def plan(recipes: Recipes, probe_s: float, workers: tuple[int, ...], as_json: bool) -> None:
    """Tell what an experiment will take: videos, hours, frames, disk space, and hours of extraction.

    The manifest is made first, if it is not there: it reads the header of every video. Cached videos are not counted
    again. Sizes are before compression, unless the probe has finished a video; hours are for machines that neither
    share a disk nor a network that limits them.
    """
    from pipeline.stages.common.manifest import load_manifest
    from pipeline.stages.extraction.plan import count_split, probe_split
    from pipeline.stages.extraction.processes import how_many

    ensure(Manifest(recipes))
    experiment = recipes.experiment
    manifest = load_manifest(experiment, recipes.manifest_folder)
    plans: dict[str, SplitPlan] = {}
    rates: dict[str, Rate | None] = {}
    for split in SPLITS:
        if imported := getattr(experiment.features, split):
            say(f"the features of the {split} videos are imported ({imported}): nothing is extracted")
            continue
        namespace = recipes.namespace(split)
        plans[split] = count_split(experiment, manifest, split, namespace, recipes.quarantine.ids(split))
        rates[split] = None
        if probe_s and plans[split].frames:
            say(f"timing the extraction of {split} videos for {probe_s / len(SPLITS):g} s")
            rates[split] = probe_split(experiment, manifest, plans[split], namespace, probe_s / len(SPLITS), say)
    if len(plans) == len(SPLITS) and any(experiment.run(name).selection.validation_share for name in experiment.runs):
        namespace, unreadable = recipes.namespace("validation"), recipes.quarantine.ids("train")
        try:
            plans["validation"] = count_split(experiment, manifest, "validation", namespace, unreadable)
        except ManifestError as error:
            say(f"warning: no validation videos are planned: {error}")
        else:
            rates["validation"] = rates["test"]  # they are extracted in the same way
    hours = {split: _hours(plans[split].frames, rate) for split, rate in rates.items()}
    if as_json:
        document = {
            split: asdict(counted)
            | {"rate": asdict(rate) if (rate := rates[split]) else None, "hours_of_extraction": hours[split]}
            for split, counted in plans.items()
        }
        click.echo(json.dumps(document, indent=1))
        return
    click.echo("\n".join([*_table(plans, rates, hours, workers), *_notes(plans, rates, experiment.paths.cache)]))
    left = max((counted.videos - counted.cached for counted in plans.values()), default=0)
    local = experiment.machine.engine == "local"
    if local and any(rates.values()) and (processes := how_many(experiment.machine, left)) > 1:
        click.echo(
            f"timed in one process; an extraction has {processes} (machine.extract_processes), and takes less time as "
            "far as cores and disk allow"
        )


def _hours(frames: int, rate: Rate | None) -> float | None:
    """Hours of extraction on this machine; None where it was not timed."""
    if not frames:
        return 0.0
    return frames / rate.frames_per_s / 3600 if rate else None


def _stored(counted: SplitPlan, rate: Rate | None) -> float:
    """Bytes of features on disk, as far as it is known how well they compress."""
    return counted.feature_bytes * (rate.share_of_raw if rate and rate.share_of_raw else 1.0)


def _table(
    plans: Mapping[str, SplitPlan],
    rates: Mapping[str, Rate | None],
    hours: Mapping[str, float | None],
    workers: Sequence[int],
) -> list[str]:
    """A row per split, for the videos that are left."""
    header = ["split", "videos", "left", "video h", "frames", "clips", "cache GB", "scores GB", "frames/s"]
    rows = [[*header, *(f"h on {count}" for count in workers)]]
    for split, counted in plans.items():
        rate, needed = rates[split], hours[split]
        rows.append(
            [
                split,
                str(counted.videos),
                str(counted.videos - counted.cached - counted.quarantined),
                f"{counted.seconds / 3600:.2f}",
                str(counted.frames),
                str(counted.clips),
                f"{_stored(counted, rate) / GB:.2f}",
                f"{counted.score_bytes / GB:.3f}",
                f"{rate.frames_per_s:.0f}" if rate else "-",
                *("-" if needed is None else f"{needed / count:.2f}" for count in workers),
            ]
        )
    return aligned(rows) if plans else []


def _notes(plans: Mapping[str, SplitPlan], rates: Mapping[str, Rate | None], cache: str) -> list[str]:
    """What the table does not say."""
    notes = []
    for split, counted in plans.items():
        rate = rates[split]
        if split == "validation":
            notes.append(
                "validation: training videos that are held out, extracted once more as windows as test videos are"
            )
            continue
        if rate:
            compressed = (
                f"features take {rate.share_of_raw:.2f} of their raw size" if rate.share_of_raw else "sizes are raw"
            )
            timed = f"{rate.frames_per_s:.0f} frames/s over {rate.seconds:.1f} s on {rate.device} in {rate.precision}"
            notes.append(f"{split}: {timed}; {compressed}")
        if counted.quarantined or counted.unknown:
            notes.append(
                f"{split}: {counted.quarantined} video(s) in quarantine, {counted.unknown} with a header that cannot "
                "be read; they are not counted"
            )
        if counted.clips:
            notes.append(f"{split}: the map of a clip takes {counted.feature_bytes / counted.clips / 1e6:.2f} MB")
    if "://" not in cache:
        place = next(path for path in [Path(cache).absolute(), *Path(cache).absolute().parents] if path.exists())
        free, needed = shutil.disk_usage(place).free, sum(_stored(counted, rates[s]) for s, counted in plans.items())
        enough = "enough" if free > needed else "NOT ENOUGH"
        notes.append(f"free where the cache lies ({place}): {free / GB:.1f} GB, {enough} for {needed / GB:.1f} GB")
    return notes
