"""`gig score`: score tables of any video files, without a list of videos or labels, by a run's head or a detector.

A file that cannot be read costs its own table and no other. Each file's features are dropped as soon as it is scored,
and a repeated run keeps the tables of files that have not changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cache import CacheError, FeatureStore
from pipeline.config import Experiment
from pipeline.errors import DecodeError, PipelineError
from pipeline.hashing import file_sha256
from pipeline.progress import Progress, Say, silent
from pipeline.stages.common.outputs import locked
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.scoring.score import score_video
from pipeline.stages.scoring.score_index import ScoreIndex
from pipeline.stages.scoring.score_report import ScoreReport, quarantine_of
from pipeline.stages.scoring.scorer import OpenElsewhere, Scorer, run_scorer
from pipeline.stages.scoring.sources import LocalVideo, Video, by_name
from pipeline.stages.scoring.video_scores import VideoScores, table_path, write_csv, write_scores
from pipeline.stages.training.saved_heads import check_features

__all__ = ["ScoreReport", "quarantine_of", "score_files", "score_sources"]


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
    scorer = run_scorer(experiment, run_name, head_folder, warnings)
    videos = [LocalVideo(Path(os.path.abspath(file)).name, file) for file in files]
    return score_sources(scorer, videos, folder, as_csv=as_csv, progress=progress, say=say)


def score_sources(
    scorer: Scorer,
    videos: Sequence[Video],
    folder: Path,
    *,
    as_csv: bool = False,
    progress: Progress | None = None,
    say: Say = silent,
    done: Callable[[], object] | None = None,
    known: Callable[[Video, str], bool] | None = None,
) -> ScoreReport:
    """As `score_files`, with anything that scores, of videos that lie here or elsewhere.

    Args:
        scorer: what scores.
        videos: each with the name of its table.
        folder, as_csv, progress, say: as of `score_files`.
        done: called when all tables are written, while no other process writes to the folder.
        known: asked, of a video that was copied here, with the SHA-256 of its content, whether it needs no scores.

    Raises:
        OutputError, FeatureMismatch, PipelineError, CacheError: as `score_files`.
    """
    named = by_name(videos, say)
    with locked(folder / "index.json", say):
        index = ScoreIndex.open(folder, scorer.made_with, scorer.about)
        scoring = _Scoring(scorer, index, quarantine_of(folder), as_csv, say, known)
        todo = scoring.sort_out(named)
        if todo:
            scoring.extract_and_score(todo, progress)
        if done:
            done()
    return scoring.report(list(named))


class _Scoring:
    """One call's work: what became of each file so far."""

    def __init__(
        self,
        scorer: Scorer,
        index: ScoreIndex,
        quarantine: Quarantine,
        as_csv: bool,
        say: Say,
        known: Callable[[Video, str], bool] | None = None,
    ) -> None:
        self._scorer, self._is_known = scorer, known
        self._index, self._quarantine, self._as_csv, self._say = index, quarantine, as_csv, say
        self._failed_before = set(quarantine.ids("test"))
        self._scored: list[str] = []
        self._kept: list[str] = []
        self._unreached: list[str] = []
        self._failed, self._known, self._copies = dict[str, str](), dict[str, str](), dict[str, str]()
        self._seen: dict[str, dict[str, object]] = {}

    def sort_out(self, named: dict[str, Video]) -> dict[str, Video]:
        """The files to score; the tables of the others are kept. Raises OutputError before any work is done."""
        todo = {}
        for name, video in named.items():
            try:
                self._seen[name] = {"path": video.place, **video.facts()}
                there = self._index.check(name, video)
            except (PipelineError, CacheError) as error:
                if not isinstance(error, DecodeError):
                    raise
                self._fail(video, error)
                continue
            except OSError as error:
                self._fail(video, DecodeError(f"{video.place}: cannot be read ({error.strerror or error})"))
                self._unreached.append(name)
                continue
            if there:
                continue
            todo[name] = video
            if isinstance(video, LocalVideo) and table_path(self._index.folder, name).exists():
                self._say(f"{name} is scored again: the file, or its table, has changed since")
        for name in named:
            if name not in todo and name not in self._failed:
                self._keep(name)
        if self._kept:
            self._say(f"not scored again, for file, head and settings are the same: {', '.join(self._kept)}")
        return todo

    def extract_and_score(self, todo: dict[str, Video], progress: Progress | None) -> None:
        """Score each file as soon as its features are extracted, into a temporary folder.

        A file that lies elsewhere is copied there when a decoder is free, and its copy removed when it is scored.
        """
        from pipeline.stages.extraction.scratch import ScratchExtraction, scratch_folder

        def tell(message: str) -> None:
            if progress:
                settled = [name for name in todo if name in (*self._failed, *self._kept, *self._known)]
                progress(len(self._scored) + len(settled), len(todo), message)

        scorer = self._scorer
        if scorer.elsewhere:
            self._score_elsewhere(scorer.elsewhere, todo, tell)
            return
        if scorer.experiment.machine.engine == "dask":
            self._say("machine.engine: dask is for a detector here; the head of an experiment scores on this machine")
        backbone = scorer.backbone() if scorer.backbone else None
        extraction = ScratchExtraction(scorer.experiment, tell, self._say, backbone)
        for warning in check_features(scorer.head, scorer.where, extraction.recipe, scorer.experiment):
            self._say(f"warning: {warning}")
        with scratch_folder(self._say) as folder:
            store = FeatureStore.open(folder / "cache")
            copies = folder / "copies"
            for outcome in extraction.extract(self._at_hand(todo, copies, tell), store):
                video = todo[outcome.video_id]
                if outcome.error:
                    self._fail(video, outcome.error)
                else:
                    self._score(store, extraction.namespace, video)
                video.let_go(copies)
        tell("scored")

    def _score_elsewhere(self, opened: OpenElsewhere, todo: dict[str, Video], tell: Say) -> None:
        """Score files on other machines; the tables are written here."""
        files = {name: video.file for name, video in todo.items() if isinstance(video, LocalVideo)}
        if others := [video.place for video in todo.values() if not isinstance(video, LocalVideo)]:
            raise PipelineError(
                f"{others[0]}: with machine.engine: dask expected files and folders that all workers reach, got an "
                "object of a storage; score those with machine.engine: local"
            )
        tell("waiting for workers")
        with opened(list(files.values()), self._say) as score:
            for done in score(files.items()):
                if done.error:
                    self._fail(todo[done.name], done.error)
                else:
                    assert done.scores is not None
                    self._write(todo[done.name], done.scores, done.origin)
                tell(f"scored {done.name}")

    def _at_hand(self, todo: dict[str, Video], copies: Path, tell: Say) -> Iterator[tuple[str, Path]]:
        """Name and file of every video, copied here where it lies elsewhere.

        One whose content turns out to be that of its table is not scored again.
        """
        for name, video in todo.items():
            if isinstance(video, LocalVideo):
                yield name, video.file
                continue
            tell(f"copying {name}")
            try:
                path = video.fetch(copies)
            except OSError as error:
                self._fail(video, error if isinstance(error, DecodeError) else DecodeError(f"{video.place}: {error}"))
                self._unreached.append(name)
                continue
            self._copies[name] = str(path)
            content = file_sha256(path)
            if self._is_known and self._is_known(video, content):
                video.let_go(copies)
                self._known[name] = content
                continue
            if self._index.holds(name, content):
                video.let_go(copies)
                self._keep(name)
                self._say(f"not scored again, for its content is the same: {name}")
                continue
            yield name, path

    def report(self, names: Sequence[str]) -> ScoreReport:
        """What was done, in the order of the names."""
        done = [name for name in names if name not in self._failed and name not in self._known]
        tables = [table_path(self._index.folder, name) for name in done]
        if self._as_csv:
            tables = [table.with_suffix(".csv") for table in tables]
        damaged = tuple(name for name in done if self._index.videos[name]["damage"])
        scored = tuple(name for name in names if name in self._scored)
        kept, lost = tuple(self._kept), tuple(self._unreached)
        return ScoreReport(tuple(tables), scored, kept, damaged, self._failed, lost, self._known)

    def _score(self, store: FeatureStore, namespace: str, video: Video) -> None:
        name = video.name
        origin = store.record(namespace, name).provenance["source"]
        scores = score_video(store, namespace, name, self._scorer.head, self._scorer.scoring)
        store.discard(namespace, name)
        self._write(video, scores, origin)

    def _write(self, video: Video, scores: VideoScores, origin: Mapping[str, Any]) -> None:
        name = video.name
        facts = {
            "made_with": self._index.made_with,
            "source": {**self._seen[name], "bytes": origin["bytes"], "sha256": origin["sha256"]},
            "decoded_frames": len(scores.frames),
            "damage": origin["damage"],
        }
        write_scores(self._index.folder, name, scores, self._scorer.head.classes, facts)
        self._settle(name)
        self._scored.append(name)

    def _keep(self, name: str) -> None:
        self._settle(name)
        self._kept.append(name)

    def _settle(self, name: str) -> None:
        """The table of a file is there: enter it, and forget that the file could not be read before."""
        self._index.add(name, self._seen[name])
        if self._as_csv:
            write_csv(table_path(self._index.folder, name))
        if name in self._failed_before:
            self._quarantine.clear([name])

    def _fail(self, video: Video, error: Exception) -> None:
        if copy := self._copies.get(video.name):  # whose path says nothing to a person
            frame, library = (error.frame, error.library) if isinstance(error, DecodeError) else (None, None)
            error = DecodeError(str(error).replace(copy, video.place), frame, library)
        self._quarantine.add(video.name, video.place, "test", error)
        self._failed[video.name] = str(error)
        self._say(f"{video.name} cannot be scored: {error}")
