"""`gig score-new`: what is new in an inbox, scored by a detector as a day of a dataset; for cron."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import click

from pipeline.cli.detector import machine_of, with_machine
from pipeline.cli.paths import FOLDER
from pipeline.cli.shared import bar, say, warn_of
from pipeline.progress import counting_warnings

__all__ = ["score_new"]

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("score-new")
@click.option("--detector", "detector", type=FILE, required=True, help="A detector file; see `gig detector pack`.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the dataset, one per detector.")
@click.option(
    "--date",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day, as 2026-11-27 (default: yesterday): files last changed until its end.",
)
@click.option(
    "--settle-s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="A file that changed less than so many seconds ago is left for the next run.",
)
@click.option("--zone", default="UTC", show_default=True, help="Time zone of days, such as Europe/Berlin.")
@click.option("--weights", type=FILE, help="The backbone's weights, if they are not in the detector.")
@with_machine
@click.argument("inbox", metavar="INBOX...", nargs=-1, required=True)
def score_new(
    detector: Path,
    out: Path,
    date: datetime.datetime | None,
    settle_s: float,
    zone: str,
    weights: Path | None,
    machine: tuple[str, ...],
    inbox: tuple[str, ...],
) -> None:
    """Score what is new in INBOX, add it to the dataset in --out as a day, and print the path of the day's page.

    INBOX is what `gig score` takes: folders, files, URLs, @lists. Each content is scored once, on whatever day and
    under whatever name. A day that is complete is not touched again. If videos could not be read, the day is complete
    without them, and the command names them and fails (--machine max_quarantined=N accepts N).
    """
    from pipeline.stages.detector.detector import Detector
    from pipeline.stages.nightly import looks
    from pipeline.stages.nightly.night import Night, check_day
    from pipeline.stages.nightly.night import score_new as score_day
    from pipeline.stages.nightly.page import page_folder

    settings = machine_of(machine)
    yesterday = looks.today(looks.find_zone(zone), time.time()) - datetime.timedelta(days=1)
    day = date.date() if date else yesterday
    loaded = Detector.load(detector, weights=weights, machine=settings)
    warn_of(list(loaded.document.warnings))
    with bar("score-new", "videos") as progress, counting_warnings(say) as told:
        done = score_day(loaded, Night(day, inbox, out, settle_s, zone), progress, told)
    for line in done.summary():
        say(line)
    click.echo(page_folder(out, done.date) / "index.html")
    check_day(done, out, settings.max_quarantined)
