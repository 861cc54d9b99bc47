"""`gig detector`: a trained detector as one file."""

from __future__ import annotations

import json
from pathlib import Path

import click
from pydantic import ValidationError

from pipeline.cli.paths import LocalPath
from pipeline.cli.shared import check_quarantine, ensure, say, warn_of, with_config, with_run, with_stage
from pipeline.config.machine import Machine
from pipeline.errors import ConfigError, PipelineError
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.common.stand_in import stand_in_reasons
from pipeline.workflow import Evaluate, OperatingPoint, frozen, model, usable_manifest

__all__ = ["detector", "machine_of", "with_machine"]

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
with_weights = click.option(
    "--weights", type=FILE, help="The backbone's weight file, for a detector that was packed without it."
)
with_machine = click.option(
    "--machine",
    "machine",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the section machine, such as device=cpu or decode_workers=4; once for each.",
)


def machine_of(settings: tuple[str, ...]) -> Machine:
    """The section `machine` of KEY=VALUE texts. Raises ConfigError."""
    if wrong := [text for text in settings if "=" not in text]:
        raise ConfigError(f"--machine: expected KEY=VALUE, such as device=cpu, got {wrong[0]!r}")
    try:
        return Machine.model_validate(dict(text.split("=", 1) for text in settings))
    except ValidationError as error:
        item = error.errors()[0]
        known = ", ".join(Machine.model_fields)
        raise ConfigError(f"--machine {'.'.join(map(str, item['loc']))}: {item['msg']}; there are {known}") from error


@click.group()
def detector() -> None:
    """A trained detector as one file, which scores videos without its experiment, data or configuration."""


@detector.command()
@with_config
@with_stage
@with_run
@click.option("--out", type=LocalPath(path_type=Path, dir_okay=False), required=True, help="NAME.safetensors.")
@click.option("--without-backbone", is_flag=True, help="Hold only the SHA-256 and the name of the backbone's weights.")
@click.option("--without-metrics", is_flag=True, help="Score and evaluate no test videos.")
def pack(recipes: Recipes, run: str, out: Path, without_backbone: bool, without_metrics: bool) -> None:
    """Pack a run's model and all that determines its scores into one file, making what is missing first."""
    from pipeline.stages.detector.packing import RunOutputs, check_packable, pack_detector

    check_packable(recipes.experiment, out, not without_backbone)
    head, point = ensure(model(recipes, run)), ensure(OperatingPoint(recipes, run))
    evaluation = None if without_metrics else ensure(Evaluate(recipes, run))
    origin = frozen(recipes)
    outputs = RunOutputs(
        name=out.name.removesuffix(".safetensors"),
        experiment=recipes.experiment,
        run=run,
        stage=recipes.stage,
        precision=recipes.precision,
        head=head,
        operating_point=point,
        evaluation=evaluation,
        manifest=usable_manifest(origin),
        left_out=len(recipes.quarantine.ids("train")),
        digests={"files": origin.files_digest, "labels": origin.labels_digest, "head": recipes.head_digest(run)},
        warnings=tuple(warn_of(stand_in_reasons(recipes))),
    )
    made = pack_detector(outputs, out, with_backbone=not without_backbone)
    say(f"{out.stat().st_size / 2**20:.1f} MiB, seal {made.seal}")
    click.echo(out)
    check_quarantine(recipes)


@detector.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="For machines: the whole document as JSON.")
def show(file: Path, as_json: bool) -> None:
    """Print what a detector is."""
    from pipeline.stages.detector.card import summary_lines
    from pipeline.stages.detector.detector import Detector

    found = Detector.load(file)
    if as_json:
        document = {"seal": found.seal, **found.document.model_dump(mode="json")}
        click.echo(json.dumps(document, indent=1, ensure_ascii=False))
        return
    click.echo("\n".join(summary_lines(found)))


@detector.command()
@click.argument("file", type=FILE)
@with_weights
@with_machine
def check(file: Path, weights: Path | None, machine: tuple[str, ...]) -> None:
    """Check that a detector is whole and loads, and that it scores a generated clip as where it was packed."""
    from pipeline.stages.detector.detector import Detector
    from pipeline.stages.detector.probe import check_probe

    found = Detector.load(file, weights=weights, machine=machine_of(machine))
    for note in found.notes():
        say(f"warning: {note}")
    try:
        most = check_probe(found)
    except PipelineError as error:
        raise PipelineError(f"{file}: {error}") from error
    same = "equal those" if most == 0 else f"differ by {most:.2g} at most from those"
    click.echo(f"ok: {file}, seal {found.seal}; scores of the generated clip {same} of the machine that packed it")


@detector.command()
@click.argument("file", type=FILE)
@click.option("--out", type=LocalPath(path_type=Path, dir_okay=False), help="Write it to a file.")
def card(file: Path, out: Path | None) -> None:
    """Print a detector's model card, in Markdown: intended use, training data, metrics, limits."""
    from pipeline.stages.detector.card import model_card
    from pipeline.stages.detector.detector import Detector

    text = model_card(Detector.load(file))
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        click.echo(out)


@detector.command()
@click.argument("file", type=FILE)
@click.option("--onnx", "as_onnx", is_flag=True, required=True, help="As ONNX graphs; there is no other form yet.")
@click.option(
    "--out", type=LocalPath(path_type=Path), required=True, help="A new folder; it appears whole or not at all."
)
@with_weights
def export(file: Path, as_onnx: bool, out: Path, weights: Path | None) -> None:
    """Write a detector as a folder that scores videos with onnxruntime, numpy and PyAV alone."""
    from pipeline.stages.detector.detector import Detector
    from pipeline.stages.detector.export import export_onnx

    found = Detector.load(file, weights=weights, machine=Machine(device="cpu"))
    for note in found.notes():
        say(f"warning: {note}")
    most = export_onnx(found, out, say)
    size = sum(path.stat().st_size for path in out.iterdir())
    say(f"{size / 2**20:.1f} MiB; scores of the generated clip differ by {most:.2g} at most from the detector's own")
    click.echo(out)
