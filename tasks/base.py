"""What the tasks share: the experiment, its recipes, progress in the scheduler, and tasks made from steps."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType

import luigi
import luigi.configuration
from luigi.task_register import Register

from cache.errors import CacheError
from pipeline.config import Experiment, load_experiment
from pipeline.config.ablation import Plan, load_ablation
from pipeline.data.decoding.following import end_with_parent
from pipeline.errors import ConfigError, PipelineError
from pipeline.stages.common.mirror import place_of
from pipeline.stages.common.progress import Pace
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import Report, Step

__all__ = [
    "ExperimentTask",
    "OutputTarget",
    "ReportingTask",
    "StagedTask",
    "StepTask",
    "plan_for",
    "recipes_for",
]

logger = logging.getLogger("luigi-interface")


OUR_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n.*\n(pipeline|cache)\.errors\.\w+: ", re.DOTALL)


class PlainErrors(logging.Filter):
    """Makes luigi log only the message of our own errors, without a traceback: the message says what is wrong."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (PipelineError, CacheError)):
            record.msg, record.args = f"{record.getMessage()}\n\n{error}\n", ()
            record.exc_info = None
        else:  # the traceback of an error before a task runs is part of luigi's message
            record.msg, record.args = OUR_TRACEBACK.sub("", record.getMessage()), ()
        return True


def _end_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print one line for Ctrl-C instead of a traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; the same command goes on with what is finished", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


logger.addFilter(PlainErrors())
# The default way in which torch looks for a GPU prevents processes that luigi forks from using it.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
sys.excepthook = _end_in_one_line
# luigi reads luigi.cfg only from the working folder; from another one it would wait for a scheduler that is not there.
if not luigi.configuration.get_config().has_section("retcode"):
    luigi.configuration.add_config_path(Path(__file__).parent / "luigi.cfg")


def _choose_scheduler(arguments: Sequence[str]) -> None:
    """Have luigi use the scheduler inside the command, unless the command or a luigi.cfg names one.

    luigi's own default is a luigid on this machine, and what a file sets here no argument can take back.
    """
    settings = luigi.configuration.get_config()
    options = ("local_scheduler", "default-scheduler-host", "default-scheduler-url")
    named = any(argument.startswith(("--scheduler-host", "--scheduler-url")) for argument in arguments)
    if not named and not any(settings.has_option("core", option) for option in options):
        settings.set("core", "local_scheduler", "true")


_choose_scheduler(sys.argv[1:])


@lru_cache(maxsize=8)
def recipes_for(config: str) -> Recipes:
    """The recipes of a configuration file, read once per process: all tasks of one command see the same listing.

    `<ablation>#<number>` is the experiment of that number, from 0, among those of an ablation (`Plan.experiments`).
    """
    logger.info("configuration %s", config)
    ablation, mark, number = config.rpartition("#")
    if mark and number.isdecimal() and not Path(config).exists():
        experiments = plan_for(ablation).experiments
        if int(number) >= len(experiments):
            raise ConfigError(f"{config}: {ablation} has {len(experiments)} way(s) to make features, numbered from 0")
        return Recipes(experiments[int(number)])
    return Recipes(load_experiment(config))


@lru_cache(maxsize=8)
def plan_for(config: str) -> Plan:
    """The plan of an ablation file, read once per process."""
    return load_ablation(Path(config))


class OutputTarget(luigi.Target):
    """An output on this machine or at a URL.

    Args:
        folder: its path on this machine.
        complete: whether it is there.
    """

    def __init__(self, folder: Path, complete: Callable[[], bool]) -> None:
        self.path, self._complete = place_of(folder), complete

    def exists(self) -> bool:
        return self._complete()

    def __str__(self) -> str:
        return self.path


class ReportingTask(luigi.Task):
    """A task that shows its progress and its messages in the scheduler and the log."""

    @property
    def unit(self) -> str:
        """What its progress counts, in the plural."""
        return "steps"

    @cached_property
    def _reported(self) -> list[float]:
        return [0.0]

    @cached_property
    def _pace(self) -> Pace:
        return Pace(self.unit)

    @property
    def title(self) -> str:
        """The name of this task in messages."""
        family: str = self.task_family
        return family

    def say(self, message: str) -> None:
        """Show a message in the scheduler and the log."""
        logger.info("%s: %s", self.title, message)
        self._show(message)

    def report(self, done: int, total: int, message: str) -> None:
        """Show a stage's progress in the scheduler, and in the log, at most once per second.

        The message has the progress, the speed and the remaining time.
        """
        now, pace = time.monotonic(), self._pace(done, total)
        if done < total and now - self._reported[0] < 1:
            return
        percent = int(100 * done / max(1, total))
        if now - self._reported[0] >= 1:
            logger.info("%s: %s, %s", self.title, message, pace)
        self._reported[0] = now
        self._show(f"{message}, {pace}")
        self.set_progress_percentage(percent)  # type: ignore[misc]  # see _show

    def _show(self, message: str) -> None:
        """Set the status message in the scheduler."""
        self.set_status_message(message)  # type: ignore[misc]  # luigi declares None and sets a function before it runs


class ExperimentTask(ReportingTask):
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


@ReportingTask.event_handler(luigi.Event.START)
def _follow(task: ReportingTask) -> None:
    """Make a process that luigi forked for a task (`--workers`) end with luigi, so that it keeps no locks."""
    if multiprocessing.parent_process() is not None:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; luigi ends its processes


class StepTask(ExperimentTask):
    """A task that makes one step of `pipeline.workflow`."""

    @property
    def step(self) -> Step:
        """The step with this task's parameters."""
        raise NotImplementedError("a subclass of StepTask defines its step")

    @property
    def unit(self) -> str:
        return self.step.unit

    @property
    def title(self) -> str:
        return self.step.title

    def requires(self) -> list[luigi.Task]:
        return [self._task(need) for need in self.step.needs()]

    def output(self) -> luigi.Target:
        return OutputTarget(self.step.output(), self.step.complete)

    def complete(self) -> bool:
        return self.step.complete()

    def run(self) -> None:
        self.step.make(Report(self.report, self.say))

    def _task(self, step: Step) -> luigi.Task:
        """The task of another step, which has the step's name and parameters."""
        task: luigi.Task = Register.get_task_cls(type(step).__name__)(config=self.config, **step.parameters())
        return task


class StagedTask(StepTask):
    """A task whose output is made with the frozen or with the fine-tuned backbone."""

    stage = luigi.ChoiceParameter(
        choices=["frozen", "finetuned"], default="frozen", description="Which backbone: frozen or finetuned."
    )

    @property
    def recipes(self) -> Recipes:
        recipes = recipes_for(self.config)
        return recipes.finetuned if self.stage == "finetuned" else recipes
