"""`gig selfcheck`: whether this machine computes what it should, how fast, and what limits it."""

from __future__ import annotations

import json
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.paths import LocalPath
from pipeline.cli.shared import say, with_config, with_json
from pipeline.config import GeneratedDataset
from pipeline.errors import PipelineError
from pipeline.stages.common.recipes import Recipes

if TYPE_CHECKING:
    from pipeline.stages.selfcheck.selfcheck import SelfCheck

__all__ = ["selfcheck"]

WIDTH = 100


@click.command()
@with_config
@click.option(
    "--record",
    type=LocalPath(path_type=Path, dir_okay=False),
    help="Keep the features of the generated clip in this file, to compare other machines and versions with.",
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Compare the features of the generated clip with those in this file.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="For which each part is timed; 0: nothing is timed.",
)
@with_json
def selfcheck(recipes: Recipes, record: Path | None, compare: Path | None, seconds: float, as_json: bool) -> None:
    """Check that this machine decodes, computes and caches what it should, and say what limits an extraction.

    Device, decoders, weights and cache are those of the configuration. Everything runs on a generated clip; decoding is
    timed on the data set's videos where they are there. Exits with 1 when something is wrong, not when it is slow.
    """
    from pipeline.stages.selfcheck.features import compare_records, read_record, write_record
    from pipeline.stages.selfcheck.findings import checked
    from pipeline.stages.selfcheck.selfcheck import self_check

    known = read_record(compare) if compare else None
    experiment = recipes.experiment
    generated = isinstance(experiment.dataset, GeneratedDataset)
    rendered = recipes.manifest_folder / "videos" if generated else None
    found = self_check(experiment, rendered, seconds, lambda *what: say(f"self-check: {what[0]}"))
    if known and found.features:
        found.checks.append(checked("features as recorded", partial(compare_records, found.features, known)))
    click.echo(json.dumps(found.document(), indent=1) if as_json else "\n".join(_text(found)))
    if (record or known) and not found.features:
        raise PipelineError("the backbone was not run, so there are no features to record or to compare")
    if record and found.features:
        write_record(record, found.features, found.machine)
        say(f"recorded in {record}")
    if found.wrong:
        raise click.exceptions.Exit(1)


def _text(found: SelfCheck) -> list[str]:
    """The findings for people."""
    from pipeline.stages.selfcheck.findings import told

    lines = [f"{name}: {fact}" for name, fact in found.machine.items()]
    lines.append("")
    for check in found.checks:
        lines += _wrapped(f"{'ok    ' if check.ok else 'WRONG '} {check.name}: {check.detail}", "       ")
    if features := found.features:
        lines += ["", *_wrapped(f"weights of {features.backbone}: sha256 {features.weights_sha256}")]
        lines += _wrapped(
            f"features of the generated clip on {features.device} in {features.precision}: mean {features.mean:.6g}, "
            f"largest {features.largest:.6g}, {features.zeros:.1%} zeros, sha256 {features.sha256[:16]}; rounding "
            "changes the hash from machine to machine: compare with --record and --compare"
        )
    if found.speeds:
        lines.append("")
    for speed in found.speeds:
        lines += _wrapped(f"{speed.name}: {told(speed.value)} {speed.unit} ({speed.detail})")
    if found.speeds and found.load > found.cores:
        lines += _wrapped(
            f"the machine is busy with other work (load {found.load:.1f} on {found.cores} cores): idle it is faster"
        )
    if found.bottleneck:
        lines += ["", *_wrapped(found.bottleneck)]
    return [*lines, "", f"{len(found.wrong)} thing(s) WRONG" if found.wrong else "nothing is wrong"]


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
