"""The step that makes the page of an experiment, after its summary; if it fails, no metrics are lost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import to_yaml
from pipeline.stages.common.mirror import publish, withdraw
from pipeline.stages.common.outputs import growing_folder, locked
from pipeline.stages.common.recipes import Recipes
from pipeline.steps import Report, Step
from pipeline.workflow.features_and_heads import model
from pipeline.workflow.manifest import Manifest
from pipeline.workflow.results import Evaluate, EvaluateAll, ScoreVideos

if TYPE_CHECKING:
    from pipeline.stages.report.report import Extras
    from pipeline.stages.report.results import Results

__all__ = ["HtmlReport"]


@dataclass(frozen=True)
class HtmlReport(Step):
    """Write the page: an index and one page per test video, in a folder that opens from disk."""

    def output(self) -> Path:
        return self.recipes.report_folder

    def needs(self) -> Sequence[Step]:
        return (EvaluateAll(self.recipes),)

    def reads(self) -> Sequence[Step]:
        steps: list[Step] = [Manifest(self.recipes)]
        for run, recipes in self.recipes.lines:
            steps += [ScoreVideos(recipes, run), Evaluate(recipes, run)]
        return steps

    def build(self, folder: Path, report: Report) -> None:
        _write(self.recipes, folder, report, None)

    def remake(self, report: Report, all_pictures: bool, proxies: bool, relations: bool) -> Path:
        """Write the pages, also where they are there, with what takes longer; what was made of that before is kept.

        Args:
            report: who is told.
            all_pictures: pictures at the peaks of every video.
            proxies: copies that browsers play, of videos that they do not.
            relations: relation maps of the videos that the index shows first.
        """
        from pipeline.stages.report.report import Extras

        recipes = self.recipes
        maps = _Maps(recipes, report) if relations else None
        extras = Extras(all_pictures, recipes.proxies_folder if proxies else None, maps)
        with growing_folder(recipes.proxies_folder, report.say) if proxies else nullcontext():
            return self._remade(report, extras)

    def _remade(self, report: Report, extras: Extras) -> Path:
        recipes = self.recipes
        if not self.complete():
            return self.make(report, lambda folder, told: _write(recipes, folder, told, extras))
        for step in (*self.reads(), self):
            step.fetch(report.say)
        with locked(self.output(), report.say):
            _write(recipes, self.output(), report, extras)
            withdraw(self.output())
            publish(self.output())
        return self.output()


def _write(recipes: Recipes, folder: Path, report: Report, extras: Extras | None) -> None:
    from pipeline.stages.report.report import write_report

    write_report(results_of(recipes), folder, extras, report.progress, report.say)


def results_of(recipes: Recipes) -> Results:
    """The outputs of a finished `EvaluateAll` that a page is made of."""
    from pipeline.stages.common.manifest import load_manifest
    from pipeline.stages.report.results import Results, RunResults

    experiment, records = recipes.experiment, recipes.quarantine.records()
    manifest = load_manifest(experiment, recipes.manifest_folder, truth=True)
    return Results(
        experiment=experiment.experiment,
        digest=recipes.summary_digest,
        dataset=experiment.dataset.name,
        adapter=experiment.dataset.adapter,
        manifest=manifest.without([record.video_id for record in records]),
        runs=tuple(
            RunResults(run, own.stage, own.scores_folder(run), own.evaluation_folder(run)) for run, own in recipes.lines
        ),
        quarantined=tuple((record.video_id, record.reason) for record in records),
        config=to_yaml(experiment),
        events=experiment.events,
        inside=recipes.folder,
        may_be_short=bool(experiment.features.test),
    )


class _Maps:
    """Draws the relation maps of a video by the first run; what is loaded for it is loaded when the first are drawn."""

    def __init__(self, recipes: Recipes, report: Report) -> None:
        self.recipes, self.say = recipes, report.say

    def __call__(self, video_id: str, folder: Path) -> None:
        from pipeline.stages.common.manifest import load_manifest
        from pipeline.stages.explain.explain import Request, explain_cached

        if (folder / "index.json").exists():
            return
        run, recipes = self.recipes.lines[0]
        experiment = recipes.experiment
        manifest = load_manifest(experiment, self.recipes.manifest_folder)
        request = Request(experiment, run, model(recipes, run).fetch(self.say), windows=3)
        explain_cached(request, manifest, recipes.namespace("test"), video_id, folder, self.say)
