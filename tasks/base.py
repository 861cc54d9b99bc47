"""What the tasks share: the experiment, its recipes, progress in the scheduler, and how a step becomes a task."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
import time
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import TracebackType

import luigi
import luigi.configuration
from luigi.task_register import Register

from cache.errors import CacheError
from pipeline.config import Experiment, load_experiment
from pipeline.data.decoding.following import end_with_parent
from pipeline.errors import PipelineError
from pipeline.stages.common.progress import Pace
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import Report, Step

__all__ = ["ExperimentTask", "StagedTask", "StepTask", "gpu_resources", "recipes_for"]

logger = logging.getLogger("luigi-interface")


OUR_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n.*\n(pipeline|cache)\.errors\.\w+: ", re.DOTALL)


class PlainErrors(logging.Filter):
    """Our own errors say what is wrong in their message: luigi logs that in place of a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (PipelineError, CacheError)):
            record.msg, record.args = f"{record.getMessage()}\n\n{error}\n", ()
            record.exc_info = None
        else:  # of an error before a task runs, luigi makes the traceback part of the message
            record.msg, record.args = OUR_TRACEBACK.sub("", record.getMessage()), ()
        return True


def _end_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C is no error: luigi passes it on, and Python would print all calls down to the interrupted one."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; the same command goes on with what is finished", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


logger.addFilter(PlainErrors())
# torch's other way to look for a GPU keeps the processes that luigi forks from using it.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
sys.excepthook = _end_in_one_line
# luigi finds luigi.cfg in the working folder only; elsewhere it would wait for a scheduler that nobody started.
if not luigi.configuration.get_config().has_section("retcode"):
    luigi.configuration.add_config_path(Path(__file__).parent / "luigi.cfg")


@lru_cache(maxsize=8)
def recipes_for(config: str) -> Recipes:
    """The recipes of a configuration file, read once a process: all tasks of one command see one listing."""
    logger.info("configuration %s", config)
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

    unit = "steps"
    """What the stage counts, in the plural."""

    @cached_property
    def _reported(self) -> list[float]:
        return [0.0]

    @cached_property
    def _pace(self) -> Pace:
        return Pace(self.unit)

    @property
    def title(self) -> str:
        """What messages call this task."""
        return self.task_family

    def say(self, message: str) -> None:
        """A message for the scheduler and the log."""
        logger.info("%s: %s", self.title, message)
        self.set_status_message(message)

    def report(self, done: int, total: int, message: str) -> None:
        """Progress of a stage: the scheduler's status message and percentage, and a log line, at most every second.

        The message says how far it is, how fast, and how long it will take.
        """
        now, pace = time.monotonic(), self._pace(done, total)
        if done < total and now - self._reported[0] < 1:
            return
        percent = int(100 * done / max(1, total))
        if now - self._reported[0] >= 1:
            logger.info("%s: %s, %s", self.title, message, pace)
        self._reported[0] = now
        self.set_status_message(f"{message}, {pace}")
        self.set_progress_percentage(percent)


@ExperimentTask.event_handler(luigi.Event.START)
def _follow(task: ExperimentTask) -> None:
    """In a process that luigi forked for a task (`--workers`): end with luigi, so that no orphan holds the locks of an
    output."""
    if multiprocessing.parent_process() is not None:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; luigi ends its processes


@cache
def gpu_resources(device: str) -> dict[str, int]:
    """What a task on `machine.device` asks of luigi's scheduler: the `gpu` resource only where it will use a GPU."""
    if device == "cpu":
        return {}
    if device == "auto":
        from pipeline.stages.common.device import pick_device

        return {"gpu": 1} if pick_device(device).type == "cuda" else {}
    return {"gpu": 1}


class StepTask(ExperimentTask):
    """A task that makes one step of `pipeline.workflow`."""

    @property
    def step(self) -> Step:
        """The step, of this task's parameters."""
        raise NotImplementedError("a StepTask names its step")

    @property
    def unit(self) -> str:
        return self.step.unit

    @property
    def title(self) -> str:
        return self.step.title

    @property
    def resources(self) -> dict[str, int]:
        return gpu_resources(self.experiment.machine.device) if self.step.uses_device else {}

    def requires(self) -> list[luigi.Task]:
        return [self._task(need) for need in self.step.needs()]

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(self.step.output()))

    def complete(self) -> bool:
        return self.step.complete()

    def run(self) -> None:
        self.step.make(Report(self.report, self.say))

    def _task(self, step: Step) -> luigi.Task:
        """The task of another step: it has the step's name and parameters."""
        return Register.get_task_cls(type(step).__name__)(config=self.config, **step.parameters())


class StagedTask(StepTask):
    """A task whose output is made with the frozen backbone, or with the fine-tuned one."""

    stage = luigi.ChoiceParameter(
        choices=["frozen", "finetuned"], default="frozen", description="Which backbone: frozen or finetuned."
    )

    @property
    def recipes(self) -> Recipes:
        recipes = recipes_for(self.config)
        return recipes.finetuned if self.stage == "finetuned" else recipes
