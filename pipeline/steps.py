"""What a step is: an output, what it needs, how it is made; and making one with everything before it.

`pipeline.workflow` has the steps of an experiment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from pipeline.progress import Progress, Say, silent
from pipeline.stages.common.outputs import make_folder
from pipeline.stages.common.recipes import Recipes

__all__ = ["SILENT", "Report", "Step", "ensure"]


@dataclass(frozen=True)
class Report:
    """Who is told what happens while a step is made.

    Attributes:
        progress: called as progress(done, total, message), often.
        say: called with each message that a person should read.
    """

    progress: Progress
    say: Say


SILENT = Report(silent, silent)


@dataclass(frozen=True)
class Step(ABC):
    """One step of an experiment. Its output is a folder that appears whole or not at all, unless a subclass says
    otherwise.

    Attributes:
        recipes: names of all outputs, of the frozen or of the fine-tuned backbone.
        unit: what its progress counts, in the plural.
        uses_device: whether it runs the backbone, on a GPU where there is one.
        staged: whether there is one of it for each backbone, frozen and fine-tuned.
    """

    recipes: Recipes
    unit: ClassVar[str] = "steps"
    uses_device: ClassVar[bool] = False
    staged: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """What messages call it, such as `ScoreVideos gig finetuned`."""
        told = [
            str(value)
            for name, value in self.parameters().items()
            if value != "frozen" and name not in ("shard", "shards")
        ]
        return " ".join([type(self).__name__, *told])

    def parameters(self) -> dict[str, str | int]:
        """What tells it from others of its kind: its fields but the recipes, and the stage."""
        own = {field.name: self.__dict__[field.name] for field in fields(self) if field.name != "recipes"}
        return own | {"stage": self.recipes.stage} if self.staged else own

    @abstractmethod
    def output(self) -> Path:
        """Where the output lies. A video that goes to quarantine on the way changes it, so ask when it is needed."""

    @abstractmethod
    def needs(self) -> Sequence[Step]:
        """The steps whose outputs it reads."""

    @abstractmethod
    def build(self, folder: Path, report: Report) -> None:
        """Fill the output's folder; what an interrupted attempt left there is used."""

    def complete(self) -> bool:
        """Whether the output is there."""
        return self.output().is_dir()

    def make(self, report: Report, build: Callable[[Path, Report], None] | None = None) -> Path:
        """Make the output, if it is not there, and return it; waits where another process is making it.

        Args:
            report: who is told.
            build: another way to fill the folder with the same content.
        """
        final = self.output()
        make_folder(final, lambda folder: (build or self.build)(folder, report), report.say)
        return final


def ensure(step: Step, listen: Callable[[Step], AbstractContextManager[Report]]) -> Path:
    """Make a step, and before it everything that it needs and that is not there.

    Args:
        step: which.
        listen: gives every step that has to be made its report.

    Returns:
        The step's output.
    """
    if not step.complete():
        for need in step.needs():
            ensure(need, listen)
    if not step.complete():  # asked again, for what was done meanwhile can have changed where the output lies
        with listen(step) as report:
            step.make(report)
    return step.output()
