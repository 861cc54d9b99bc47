"""The task that scores what is new in an inbox, a day at a time; made for luigi's range tools."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from pathlib import Path

import luigi
from pydantic import ValidationError

from pipeline.config.machine import Machine
from pipeline.errors import ConfigError
from pipeline.stages.nightly.days import day_path
from tasks.base import ReportingTask

__all__ = ["ScoreNew"]


class ScoreNew(ReportingTask):
    """Score what is new in an inbox with a detector, and add it to a dataset as a day of its own.

    Missing days are caught up, the first one first:
    luigi --module tasks RangeDaily --of ScoreNew --start 2026-11-01 --of-params '{"detector": ..., "inbox": ...}'
    """

    date = luigi.DateParameter(description="The day: files last changed until its end, which no run has scored before.")
    detector = luigi.Parameter(description="A detector file, made by `gig detector pack`.")
    inbox = luigi.Parameter(description="A folder, URL or @list, as `gig score` takes them.")
    out = luigi.Parameter(default="", description="Folder of the dataset (default: nightly/<name of the detector>).")
    settle_s = luigi.FloatParameter(
        default=60.0, significant=False, description="A file that changed less than so many seconds ago is left."
    )
    zone = luigi.Parameter(default="UTC", significant=False, description="Time zone of days, such as Europe/Berlin.")
    weights = luigi.Parameter(
        default="", significant=False, description="The backbone's weights, if not in the detector."
    )
    machine: luigi.DictParameter = luigi.DictParameter(
        default={}, significant=False, description='The section machine, as \'{"device": "cpu", "decode_workers": 2}\'.'
    )

    @property
    def unit(self) -> str:
        return "videos"

    @property
    def title(self) -> str:
        return f"ScoreNew {self.date}"

    @property
    def folder(self) -> Path:
        """Of the dataset."""
        return Path(self.out or f"nightly/{Path(self.detector).name.removesuffix('.safetensors')}")

    @property
    def priority(self) -> int:  # type: ignore[override]  # luigi has a class attribute
        """Earlier days come first, so that a file goes to its own day when several are caught up."""
        return datetime.date.max.toordinal() - int(self.date.toordinal())  # luigi's scheduler takes negative ones for 0

    def process_resources(self) -> dict[str, int]:
        """One day of a dataset at a time, whatever the number of workers."""
        return {f"score_new {self.folder.absolute()}": 1}

    @property
    def _machine(self) -> Machine:
        try:
            return Machine.model_validate(dict(self.machine))
        except ValidationError as error:
            item = error.errors()[0]
            raise ConfigError(f"machine.{'.'.join(map(str, item['loc']))}: {item['msg']}") from error

    def output(self) -> luigi.LocalTarget:
        """The record of the day, which is written last."""
        return luigi.LocalTarget(str(day_path(self.folder, self.date)))

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[datetime.date]) -> list[datetime.date]:
        """The days that are complete; luigi's range tools give the other parameters with the class."""
        task: Callable[[datetime.date], luigi.Task] = cls
        return [date for date in parameter_tuples if task(date).complete()]

    def run(self) -> None:
        from pipeline.stages.detector.detector import Detector
        from pipeline.stages.nightly.night import Night, check_day, score_new
        from pipeline.stages.nightly.page import page_folder

        detector = Detector.load(self.detector, weights=self.weights or None, machine=self._machine)
        night = Night(self.date, (self.inbox,), self.folder, self.settle_s, self.zone)
        day = score_new(detector, night, self.report, self.say)
        for line in day.summary():
            self.say(line)
        print(f"page: {page_folder(self.folder, self.date) / 'index.html'}")
        check_day(day, self.folder, self._machine.max_quarantined)
