"""`gig ablate`: many settings of one experiment, one table."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pipeline.cli.shared import bar, name_config, say
from pipeline.config.ablation import load_ablation
from pipeline.workflow import Report

__all__ = ["ablate"]


@click.command()
@click.option(
    "--config",
    default="configs/ablations/fixture.yaml",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The ablation, a YAML file; docs/ablations.md describes it.",
)
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--check", is_flag=True, help="Validate the file, list its settings, and do nothing.")
def ablate(config: Path, workers: int, check: bool) -> None:
    """Train, score and evaluate every setting of an ablation on shared features, and print the table."""
    name_config(config)
    plan = load_ablation(config)
    if check:
        for setting in plan.settings:
            click.echo(setting.name)
        click.echo(
            f"ok: {len(plan.settings)} settings, {len(plan.ablation.seeds)} seed(s), features made in "
            f"{len(plan.experiments)} way(s)" + (f" ({', '.join(plan.varied)})" if plan.varied else "")
        )
        return
    from pipeline.ablation.ablate import check_quarantines, run_ablation

    with bar("ablate") as progress:
        folder = run_ablation(plan, workers, Report(progress, say))
    click.echo((folder / "results.md").read_text(encoding="utf-8"))
    click.echo(f"results: {folder}")
    check_quarantines(plan, say)
