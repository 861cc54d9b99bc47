"""`gig clips`: a clip and a picture of every event."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.paths import FOLDER
from pipeline.cli.shared import bar, make, say
from pipeline.cli.videos import EVENTS, existing, known_videos, with_videos
from pipeline.config import load_experiment
from pipeline.data.decoding.opening import MAX_PIXELS
from pipeline.data.events import read_events
from pipeline.data.formats.facts import of_classes
from pipeline.errors import PipelineError

__all__ = ["clips"]


@click.command()
@click.argument("events", type=EVENTS)
@with_videos
@click.option("--class", "classes", multiple=True, help="Only events of this class; may be given again.")
@click.option(
    "--margin", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Before and after, in seconds."
)
@click.option("--out", type=FOLDER, help="Folder of the clips (default: <name of EVENTS>-clips).")
def clips(
    events: Path, config: Path | None, videos: Path | None, classes: tuple[str, ...], margin: float, out: Path | None
) -> None:
    """Cut a clip out for every event of EVENTS, a table (.parquet, .csv, .jsonl), with sound, and contact sheets.

    A video that cannot be read is reported, and the others are still cut; the command then exits with 1.
    """
    from pipeline.stages.clips.clips import ClipReport, make_clips

    found, notes = of_classes(read_events(events), classes)
    for note in notes:
        say(note)
    final = out or Path(f"{events.stem}-clips")
    if final.exists():
        raise PipelineError(f"{final} is there already: remove it or give another --out")
    files = existing(known_videos(found, config, videos), found)
    experiment = load_experiment(config) if config else None
    max_pixels = experiment.decoding.max_pixels if experiment else MAX_PIXELS
    workers = experiment.machine.decode_workers if experiment else 0
    reports: list[ClipReport] = []
    with bar("clips", "events") as progress:

        def build(folder: Path) -> None:
            reports.append(
                make_clips(
                    found,
                    files,
                    folder,
                    margin_s=margin,
                    max_pixels=max_pixels,
                    workers=workers,
                    progress=progress,
                    say=say,
                    experiment=experiment,
                )
            )

        make(final, build)
    (report,) = reports
    click.echo(f"{len(report.clips)} clip(s) of {len(found)} event(s): {final}")
    for path in sorted(final.glob("*.*")):
        click.echo(path)
    if report.failed:
        raise PipelineError(f"{len(report.failed)} video(s) without all of their clips: {', '.join(report.failed)}")
