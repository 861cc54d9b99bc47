"""`gig score`: score tables of any video files, without a list of videos or labels.

A file that cannot be read costs its own table and no other. Each file's features are dropped as soon as it is scored,
and a repeated run keeps the tables of files that have not changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache import CacheError, FeatureStore
from pipeline.config import Experiment
from pipeline.errors import DecodeError, PipelineError
from pipeline.hashing import file_sha256
from pipeline.progress import Progress, Say, silent
from pipeline.stages.common.device import choose_precision, pick_device
from pipeline.stages.common.digests import VERSIONS, weights_identity
from pipeline.stages.common.outputs import locked
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.scoring.causal import check_causal
from pipeline.stages.scoring.score import score_video, table_path, write_csv, write_scores
from pipeline.stages.scoring.score_index import ScoreIndex
from pipeline.stages.training.saved_heads import TrainedHead, check_features, load_head
from pipeline.stages.training.validation import read_thresholds

__all__ = ["ScoreReport", "quarantine_of", "score_files"]


@dataclass(frozen=True)
class ScoreReport:
    """What became of the files, each named as its table is.

    Attributes:
        tables: score tables of all files that have one, in the order of the files; CSV where that was asked for.
        scored: files that were scored now.
        kept: files whose table was there already, made from the same content with the same head and settings.
        damaged: files of which damaged parts were left out.
        failed: file -> why it could not be scored.
    """

    tables: tuple[Path, ...]
    scored: tuple[str, ...]
    kept: tuple[str, ...]
    damaged: tuple[str, ...]
    failed: dict[str, str]


def quarantine_of(folder: Path) -> Quarantine:
    """The files that could not be scored into a folder of score tables."""
    return Quarantine(folder / "quarantine")


def score_files(
    experiment: Experiment,
    run_name: str,
    head_folder: Path,
    files: Sequence[Path],
    folder: Path,
    *,
    as_csv: bool = False,
    progress: Progress | None = None,
    say: Say = silent,
    warnings: Sequence[str] = (),
) -> ScoreReport:
    """Score any video files, of one frame or many, with a trained head.

    Writes to `folder` one table per file, index.json, and in quarantine/ a record of every file that cannot be read;
    such a file is tried again by the next call that names it.

    Args:
        experiment: settings.
        run_name: one of its runs, for the scoring section.
        head_folder: the trained head.
        files: video files, or folders of images; a table has the name of its file.
        folder: where the tables go.
        as_csv: write each table as CSV too.
        progress: told how far it is.
        say: told every event that the user should know of: damage, files that cannot be read, files that are not scored
            again.
        warnings: warnings about the scores as a whole, for index.json.

    Raises:
        OutputError: a table would replace that of another file or another head, or cannot be written.
        FeatureMismatch: the head was trained on features that were made in another way.
        PipelineError: two files have the same name, or the head is not one for the scores that `scoring.cue` asks for.
        CacheError: the temporary folder cannot be written. Tables finished before it are kept.
    """
    named = _named(files, say)
    path = head_folder / "head.safetensors"
    head = load_head(path)
    if experiment.run(run_name).scoring.cue == "running":
        check_causal(head.settings)
    about: dict[str, object] = {"classes": list(head.classes)}
    if thresholds := read_thresholds(head_folder, head.classes):
        about["thresholds"] = thresholds
    about |= {
        "head": {"path": str(path.resolve()), "name": head.settings.name, "run": run_name},
        "warnings": list(warnings),
    }
    with locked(folder / "index.json", say):
        index = ScoreIndex.open(folder, _made_with(experiment, run_name, path), about)
        scoring = _Scoring(experiment, run_name, head, index, quarantine_of(folder), as_csv, say)
        todo = scoring.sort_out(named)
        if todo:
            scoring.extract_and_score(todo, path, progress)
    return scoring.report(list(named))


class _Scoring:
    """One call's work: what became of each file so far."""

    def __init__(
        self,
        experiment: Experiment,
        run_name: str,
        head: TrainedHead,
        index: ScoreIndex,
        quarantine: Quarantine,
        as_csv: bool,
        say: Say,
    ) -> None:
        self._experiment, self._scoring, self._head = experiment, experiment.run(run_name).scoring, head
        self._index, self._quarantine, self._as_csv, self._say = index, quarantine, as_csv, say
        self._failed_before = set(quarantine.ids("test"))
        self._scored: list[str] = []
        self._kept: list[str] = []
        self._failed: dict[str, str] = {}

    def sort_out(self, named: dict[str, Path]) -> dict[str, Path]:
        """The files to score; the tables of the others are kept. Raises OutputError before any work is done."""
        todo = {}
        for name, file in named.items():
            try:
                there = self._index.check(name, file)
            except (PipelineError, CacheError) as error:
                if not isinstance(error, DecodeError):
                    raise
                self._fail(name, file, error)
                continue
            except OSError as error:
                self._fail(name, file, DecodeError(f"{file}: cannot be read ({error.strerror or error})"))
                continue
            if there:
                continue
            todo[name] = file
            if table_path(self._index.folder, name).exists():
                self._say(f"{name} is scored again: the file, or its table, has changed since")
        for name in named:
            if name not in todo and name not in self._failed:
                self._settle(name)
                self._kept.append(name)
        if self._kept:
            self._say(f"not scored again, for file, head and settings are the same: {', '.join(self._kept)}")
        return todo

    def extract_and_score(self, todo: dict[str, Path], head_path: Path, progress: Progress | None) -> None:
        """Score each file as soon as its features are extracted, into a temporary folder."""
        from pipeline.stages.extraction.scratch import ScratchExtraction, scratch_store

        def tell(message: str) -> None:
            if progress:
                progress(len(self._scored) + len(self._failed), len(todo), message)

        extraction = ScratchExtraction(self._experiment, tell, self._say)
        for warning in check_features(self._head, head_path, extraction.recipe, self._experiment):
            self._say(f"warning: {warning}")
        with scratch_store(self._say) as store:
            for outcome in extraction.extract(todo, store):
                if outcome.error:
                    self._fail(outcome.video_id, todo[outcome.video_id], outcome.error)
                else:
                    self._score(store, extraction.namespace, outcome.video_id, todo[outcome.video_id])
        tell("scored")

    def report(self, names: Sequence[str]) -> ScoreReport:
        """What was done, in the order of the names."""
        done = [name for name in names if name not in self._failed]
        tables = [table_path(self._index.folder, name) for name in done]
        if self._as_csv:
            tables = [table.with_suffix(".csv") for table in tables]
        damaged = tuple(name for name in done if self._index.videos[name]["damage"])
        scored = tuple(name for name in names if name in self._scored)
        return ScoreReport(tuple(tables), scored, tuple(self._kept), damaged, self._failed)

    def _score(self, store: FeatureStore, namespace: str, name: str, file: Path) -> None:
        origin = store.record(namespace, name).provenance["source"]
        scores = score_video(store, namespace, name, self._head, self._scoring)
        store.discard(namespace, name)
        facts = {
            "made_with": self._index.made_with,
            "source": {"path": str(file.resolve()), "bytes": origin["bytes"], "sha256": origin["sha256"]},
            "decoded_frames": len(scores.frames),
            "damage": origin["damage"],
        }
        write_scores(self._index.folder, name, scores, self._head.classes, facts)
        self._settle(name)
        self._scored.append(name)

    def _settle(self, name: str) -> None:
        """The table of a file is there: enter it, and forget that the file could not be read before."""
        self._index.add(name)
        if self._as_csv:
            write_csv(table_path(self._index.folder, name))
        if name in self._failed_before:
            self._quarantine.clear([name])

    def _fail(self, name: str, file: Path, error: Exception) -> None:
        self._quarantine.add(name, str(file.resolve()), "test", error)
        self._failed[name] = str(error)
        self._say(f"{name} cannot be scored: {error}")


def _named(files: Sequence[Path], say: Say) -> dict[str, Path]:
    """Table name -> file. Raises PipelineError when two files have the same name."""
    named: dict[str, Path] = {}
    for file in files:
        name = Path(os.path.abspath(file)).name
        before = named.get(name)
        if before and before.resolve() != file.resolve():
            raise PipelineError(
                f"{before} and {file}: two videos of the same name would share a score table; "
                "score them into different --out folders"
            )
        if before:
            say(f"{file} was given twice; it is scored once")
        named[name] = file
    return named


def _made_with(experiment: Experiment, run_name: str, head_path: Path) -> dict[str, dict[str, object]]:
    """What decides the scores besides the video."""
    backbone = experiment.backbone
    precision = choose_precision(backbone.precision, pick_device(experiment.machine.device))
    return {
        "head": {"sha256": file_sha256(head_path)},
        "backbone": {"name": backbone.name, "weights_sha256": weights_identity(backbone), "precision": precision},
        "decoding": experiment.decoding.deciding(),
        "preprocess": experiment.preprocess.model_dump(),
        "test_sampling": experiment.test_sampling.model_dump(),
        "storage": experiment.storage.model_dump(),
        "scoring": experiment.run(run_name).scoring.deciding(),
        "version": {"features": VERSIONS["features"], "scores": VERSIONS["scores"]},
    }
