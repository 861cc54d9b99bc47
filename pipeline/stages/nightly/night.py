"""One night: what is new in an inbox is scored by a detector and added to the dataset, as a day of its own.

The tables are made in a hidden folder, where a killed run leaves them for the next one; the day appears in the dataset
when all are there; its record is written last and makes it complete. A complete day is never touched again: what comes
afterwards belongs to a later one.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.mirrors import url_scheme
from pipeline.errors import OutputError, PipelineError, QuarantineExceeded
from pipeline.progress import Progress, Say, silent
from pipeline.stages.common.outputs import locked
from pipeline.stages.detector.detector import Detector
from pipeline.stages.nightly.days import Day, Night, read_day
from pipeline.stages.nightly.looks import find_zone, today
from pipeline.stages.nightly.running import Run
from pipeline.stages.scoring.inputs import FILE
from pipeline.stages.scoring.score_loose import quarantine_of

__all__ = ["Night", "check_day", "score_new"]


def score_new(detector: Detector, night: Night, progress: Progress = silent, say: Say = silent) -> Day:
    """Score what is new, and complete the day; a day that is complete already is returned as it is.

    Args:
        detector: what scores.
        night: the day, the inbox and the folder of the dataset.
        progress: told how far it is.
        say: told what a person should know.

    Raises:
        OutputError: the dataset is another detector's, or cannot be written. The day is not complete then.
        PipelineError: the inbox is missing or cannot be looked at, or `night` is wrong.
    """
    done = read_day(night.folder, night.date)
    if done is not None:
        if done.detector["seal"] != detector.seal:
            raise OutputError(
                f"{night.folder}: {night.date} was scored by {done.detector['name']}, seal "
                f"{done.detector['seal'][:16]}; got {detector.document.name}, seal {detector.seal[:16]}: give another "
                "--out"
            )
        say(f"{night.date} is complete since {done.finished}; what came after belongs to a later day")
        return done
    _check(night)
    if night.date == today(find_zone(night.zone), night.now_s()):
        say(f"{night.date} is not over: what comes after this run belongs to a later day")
    with locked(night.folder / "nightly", say, f"a day of {night.folder}"):
        done = read_day(night.folder, night.date)  # the process that this one waited for has made it
        return done if done is not None else Run(detector, night, progress, say).run()


def check_day(day: Day, folder: Path, most: int) -> None:
    """Say what a person should look after.

    Args:
        day: a complete day.
        folder: of the dataset.
        most: so many files in quarantine are accepted.

    Raises:
        QuarantineExceeded: more files of the day could not be scored.
        PipelineError: something could not be looked at or read; a later run tries it again.
    """
    others = "".join(f"\n  {line}" for line in day.problems)
    if len(day.failed) > most:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in day.failed.items())
        raise QuarantineExceeded(
            f"{day.date}: {len(day.failed)} video(s) could not be scored, machine.max_quarantined is {most}; the day "
            f"is complete without them\n{lines}\n"
            f"Their records are in {quarantine_of(folder).folder}; `gig quarantine clear --scores {folder}` lets the "
            "next run try them again." + (f"\nA later run tries what could not be read:{others}" if others else "")
        )
    if others:
        raise PipelineError(f"{day.date} is complete, but for what could not be read; a later run tries it:{others}")


def _check(night: Night) -> None:
    """Raise PipelineError for an inbox that is not there, or a dataset that would lie in it."""
    if night.date > today(find_zone(night.zone), night.now_s()):
        raise PipelineError(f"{night.date}: expected today or a day before, got one in the future ({night.zone})")
    if night.settle_s < 0:
        raise PipelineError(f"settle-s: expected 0 or more seconds, got {night.settle_s:g}")
    for text in night.inbox:
        if text.startswith("@") or url_scheme(text) not in ("", None, "file"):
            continue
        path = Path(text.removeprefix(FILE))
        if not path.exists():
            raise PipelineError(f"{path}: the inbox is not there; the day stays open")
        if night.folder.resolve().is_relative_to(path.resolve()):
            raise PipelineError(f"{night.folder}: expected a folder outside the inbox {path}, whose videos are scored")
