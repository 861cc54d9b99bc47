"""Steps whose outputs are stored in a bucket: what one machine has made another one fetches, where it reads it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.config import parse_experiment
from pipeline.stages.common.recipes import Recipes
from pipeline.steps import SILENT, Report, Step, ensure
from pipeline.workflow import Evaluate, EvaluateAll, ExtractFeatures, HtmlReport, Manifest, ScoreVideos
from tasks.base import OutputTarget

BUILT: list[str] = []


@dataclass(frozen=True)
class First(Step):
    def output(self) -> Path:
        return self.recipes.folder / "first-1"

    def needs(self) -> Sequence[Step]:
        return ()

    def build(self, folder: Path, report: Report) -> None:
        BUILT.append("first")
        (folder / "text").write_text("first")


@dataclass(frozen=True)
class Second(Step):
    def output(self) -> Path:
        return self.recipes.folder / "second-1"

    def needs(self) -> Sequence[Step]:
        return (First(self.recipes),)

    def build(self, folder: Path, report: Report) -> None:
        BUILT.append("second")
        (folder / "text").write_text(First(self.recipes).output().joinpath("text").read_text() + " second")


@pytest.fixture
def machine(nano, s3_bucket, tmp_path):
    """The recipes of one experiment on a machine, which is known by its name."""
    BUILT.clear()

    def make(name: str) -> Recipes:
        nano["paths"] = {"output": f"{s3_bucket}/results", "cache": str(tmp_path / "cache"), "scratch": tmp_path / name}
        return Recipes(parse_experiment(nano))

    return make


def make(step: Step) -> Path:
    return ensure(step, lambda step: nullcontext(SILENT))


def here(recipes: Recipes) -> list[str]:
    return sorted(path.name for path in recipes.folder.glob("*-1"))


def test_what_a_step_reads_is_fetched_before_it_is_made(machine):
    one, two = machine("one"), machine("two")
    make(First(one))
    assert (make(Second(two)) / "text").read_text() == "first second"
    assert (BUILT, here(one), here(two)) == (["first", "second"], ["first-1"], ["first-1", "second-1"])
    assert Second(one).complete()


def test_of_what_is_made_only_the_output_that_is_asked_for_is_fetched(machine):
    one, two = machine("one"), machine("two")
    make(Second(one))
    BUILT.clear()
    assert (make(Second(two)) / "text").read_text() == "first second"
    assert (BUILT, here(two)) == ([], ["second-1"])


def test_a_step_that_is_looked_for_is_not_made(machine):
    recipes = machine("one")
    assert not First(recipes).complete()
    assert not First(recipes).fetch().exists()
    assert BUILT == []


def test_the_targets_of_tasks_say_where_an_output_is_stored(machine, s3_bucket):
    step = First(machine("one"))
    target = OutputTarget(step.output(), step.complete)
    assert (target.exists(), target.path, str(target)) == (False, *[f"{s3_bucket}/results/nano/first-1"] * 2)
    make(step)
    assert target.exists()


def test_the_page_reads_more_than_the_summary_that_it_needs(machine):
    recipes = machine("one")
    assert list(HtmlReport(recipes).needs()) == [EvaluateAll(recipes)]
    reads = HtmlReport(recipes).reads()
    assert all(step in reads for step in (Manifest(recipes), ScoreVideos(recipes, "gig"), Evaluate(recipes, "gig")))


def test_features_are_in_the_cache_and_nothing_is_fetched_of_them(machine, s3_bucket):
    recipes = machine("one")
    step = ExtractFeatures(recipes, "train")
    assert step.make(SILENT) == step.fetch() == step.output()
    assert not recipes.folder.exists()
