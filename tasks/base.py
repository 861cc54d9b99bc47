"""What the tasks share: the experiment, its recipes, progress in the scheduler, atomic folders."""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from pathlib import Path

import luigi

from pipeline.config import Experiment, load_experiment
from pipeline.stages.outputs import whole_folder
from pipeline.stages.recipes import Recipes

__all__ = ["ExperimentTask", "FolderTask", "recipes_for"]

logger = logging.getLogger("luigi-interface")


@lru_cache(maxsize=8)
def recipes_for(config: str) -> Recipes:
    """The recipes of a configuration file, read once a process: all tasks of one command see one listing."""
    return Recipes(load_experiment(config))


class ExperimentTask(luigi.Task):
    """A task of the experiment in a configuration file."""

    config = luigi.Parameter(
        default="configs/fixture.yaml",
        description="The experiment: a YAML file, see configs/ (default: configs/fixture.yaml).",
    )

    @property
    def recipes(self) -> Recipes:
        return recipes_for(self.config)

    @property
    def experiment(self) -> Experiment:
        return self.recipes.experiment

    @cached_property
    def _reported(self) -> list[float]:
        return [0.0]

    def report(self, done: int, total: int, message: str) -> None:
        """Progress of a stage: the scheduler's status message and percentage, and a log line every few seconds."""
        now = time.monotonic()
        if done < total and now - self._reported[0] < 1:
            return
        percent = int(100 * done / max(1, total))
        if now - self._reported[0] >= 1:
            logger.info("%s: %s, %d of %d", self.task_family, message, done, total)
        self._reported[0] = now
        self.set_status_message(f"{message}, {done} of {total}")
        self.set_progress_percentage(percent)


class FolderTask(ExperimentTask):
    """A task whose output is one folder that appears whole or not at all."""

    def folder(self) -> Path:
        """Where the output lies; its name carries the recipe digest."""
        raise NotImplementedError("a FolderTask names its folder")

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(self.folder()))

    def fresh_folder(self) -> AbstractContextManager[Path]:
        """A folder to write to that becomes the output when the block ends well."""
        return whole_folder(self.folder())
