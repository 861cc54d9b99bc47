"""The manifest: the first step. All other steps read its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.manifest import Manifest as VideoManifest
from pipeline.errors import DecodeError
from pipeline.stages.common.recipes import FinetunedRecipes, Recipes
from pipeline.stages.common.shared_files import shared_journal
from pipeline.steps import Report, Step

__all__ = ["Manifest", "check_readable", "frozen", "usable_manifest"]


@dataclass(frozen=True)
class Manifest(Step):
    """Check the annotations and videos of the data set and write a manifest; render a synthetic data set."""

    def output(self) -> Path:
        return self.recipes.manifest_folder

    def needs(self) -> Sequence[Step]:
        return ()

    def build(self, folder: Path, report: Report) -> None:
        from pipeline.stages.common.manifest import build_manifest, journal_of

        with shared_journal(journal_of(folder.parent)):
            build_manifest(self.recipes.experiment, folder, report.progress, report.say)


def usable_manifest(recipes: Recipes) -> VideoManifest:
    """The manifest of a finished `Manifest` step, without videos in quarantine and ground truth of test videos."""
    from pipeline.stages.common.manifest import load_manifest

    manifest = load_manifest(recipes.experiment, recipes.manifest_folder)
    return manifest.without(recipes.quarantine.ids())


def check_readable(recipes: Recipes, video_id: str) -> None:
    """Raise DecodeError, with the reason, if a video is in quarantine."""
    for record in recipes.quarantine.records():
        if record.video_id == video_id:
            raise DecodeError(
                f"{video_id} ({record.split}) could not be read and is in quarantine: {record.reason}. Repair the "
                "file, or have it tried again with `gig quarantine clear`"
            )


def frozen(recipes: Recipes) -> Recipes:
    """The recipes of the frozen stage, for recipes of either stage."""
    return recipes.frozen if isinstance(recipes, FinetunedRecipes) else recipes
