"""What a step is: an output, the steps that it needs, and how it is made. `ensure` makes a step and all before it.

`pipeline.workflow` has the steps of an experiment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

from pipeline.progress import Progress, Say, counting_warnings, silent
from pipeline.stages.common.mirror import is_made
from pipeline.stages.common.outputs import fetch_folder, make_folder
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.common.shared_files import forget_listings

__all__ = ["SILENT", "Report", "Step", "ensure"]


@dataclass(frozen=True)
class Report:
    """Callbacks that receive the progress and the messages of a step.

    Attributes:
        progress: called as progress(done, total, message), often.
        say: called with each message that a person should read.
    """

    progress: Progress
    say: Say

    @contextmanager
    def counting_warnings(self) -> Iterator[Report]:
        """A report to use in the block; at the end it says how many warnings it received, if any."""
        with counting_warnings(self.say) as say:
            yield replace(self, say=say)


SILENT = Report(silent, silent)


@dataclass(frozen=True)
class Step(ABC):
    """One step of an experiment.

    Its output is a folder that appears only when it is complete, unless a subclass says otherwise.

    Attributes:
        recipes: names of all outputs, of the frozen or of the fine-tuned backbone.
        unit: what its progress counts, in the plural.
        staged: whether the step exists for both backbones, frozen and fine-tuned.
    """

    recipes: Recipes
    unit: ClassVar[str] = "steps"
    staged: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """Its name in messages, such as `ScoreVideos gig finetuned`."""
        values = [
            str(value)
            for name, value in self.parameters().items()
            if value != "frozen" and name not in ("shard", "shards")
        ]
        return " ".join([type(self).__name__, *values])

    def parameters(self) -> dict[str, str | int]:
        """What distinguishes it from other steps of its class: its fields except `recipes`, and the stage."""
        own = {field.name: self.__dict__[field.name] for field in fields(self) if field.name != "recipes"}
        return own | {"stage": self.recipes.stage} if self.staged else own

    @abstractmethod
    def output(self) -> Path:
        """The path of the output. It changes when a video goes to quarantine, so ask for it when it is needed."""

    @abstractmethod
    def needs(self) -> Sequence[Step]:
        """The steps whose outputs it reads."""

    def reads(self) -> Sequence[Step]:
        """The steps whose folders `build` reads; those that it needs, unless a subclass says otherwise."""
        return self.needs()

    @abstractmethod
    def build(self, folder: Path, report: Report) -> None:
        """Fill the folder of the output, continuing from what an interrupted attempt left there.

        Args:
            folder: the folder to fill, which becomes the output.
            report: receives progress and messages.
        """

    def complete(self) -> bool:
        """Whether the output is there."""
        forget_listings()
        return is_made(self.output())

    def fetch(self, say: Say = silent) -> Path:
        """Bring the output to this machine if it is stored at a URL, and return its folder here.

        An output that is not there is left alone.

        Args:
            say: told what is fetched.
        """
        output = self.output()
        fetch_folder(output, say)
        return output

    def make(self, report: Report, build: Callable[[Path, Report], None] | None = None) -> Path:
        """Make the output if it is missing, and return it; waits if another process is making it.

        Args:
            report: receives progress and messages, and at the end how many of these were warnings.
            build: another way to fill the folder with the same content.
        """
        forget_listings()
        final = self.output()
        with report.counting_warnings() as told:

            def fill(folder: Path) -> None:
                for step in self.reads():
                    step.fetch(told.say)
                (build or self.build)(folder, told)

            make_folder(final, fill, told.say)
        return final


def ensure(step: Step, listen: Callable[[Step], AbstractContextManager[Report]]) -> Path:
    """Make a step, and before it the missing steps that it needs.

    Args:
        step: the step to make.
        listen: returns the report for a step that has to be made.

    Returns:
        The step's output, on this machine.
    """
    _make(step, listen)
    return step.fetch()


def _make(step: Step, listen: Callable[[Step], AbstractContextManager[Report]]) -> None:
    if not step.complete():
        for need in step.needs():
            _make(need, listen)
    if not step.complete():  # asked again, because the steps before can have changed the path of the output
        with listen(step) as report:
            step.make(report)
