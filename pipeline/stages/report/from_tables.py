"""The page of score tables of any system, with ground truth or without.

The tables are first brought into the form of an experiment's outputs, in a folder that is removed when the page is
written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache.names import escape
from pipeline.config import Evaluation, Events, to_yaml
from pipeline.data.manifest import Manifest, VideoEntry, load
from pipeline.errors import PipelineError
from pipeline.progress import WARNING, Progress, Say
from pipeline.stages.evaluation.evaluate import evaluate_tables
from pipeline.stages.evaluation.judged_events import EventOptions
from pipeline.stages.events.events import sources_of
from pipeline.stages.events.videos import KnownVideos, open_scores
from pipeline.stages.report.report import Extras, write_report
from pipeline.stages.report.results import Results, RunResults
from pipeline.stages.report.scratch_tables import ScratchTables
from pipeline.stages.scoring.score_form import ScoreForm
from pipeline.stages.scoring.score_loose import quarantine_of
from pipeline.stages.scoring.tables import quarantine_note, read_index, read_quarantined

__all__ = ["Source", "TableOptions", "write_tables_report"]

UNTIMED = (
    "Nothing says when the frames of {} are shown: all times on this page are numbers of frames, no gap between events "
    "is closed and no event is too short. --fps states the frame rate."
)


@dataclass(frozen=True)
class Source:
    """Scores of one system.

    Attributes:
        name: what the page calls them.
        path: the folder or file from which they are read.
    """

    name: str
    path: Path

    @property
    def indexed(self) -> bool:
        """Whether it is a folder of this system, which says itself how it is read."""
        return (self.path / "index.json").is_file()


@dataclass(frozen=True)
class TableOptions:
    """How score tables are read and judged.

    Attributes:
        evaluation, events: settings.
        form: what scores stand for, of tables without an index.
        lengths: video id -> decoded frames, where they are known better than by the manifest.
        fps: frames per second of all videos whose tables hold no times, in place of the manifest's.
        classes: columns of class scores of tables without an index, where there is no manifest.
    """

    evaluation: Evaluation = field(default_factory=Evaluation)
    events: Events = field(default_factory=Events)
    form: ScoreForm = field(default_factory=ScoreForm)
    lengths: Mapping[str, int] | None = None
    fps: float | None = None
    classes: tuple[str, ...] = ()


def write_tables_report(
    sources: Sequence[Source],
    truth: Path | None,
    folder: Path,
    options: TableOptions | None = None,
    extras: Extras | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> None:
    """Write the page of score tables; with ground truth, their evaluations too, in `folder`/evaluation-<name>.

    Args:
        sources: the scores of one or several systems, all of the same videos, beside each other on the page.
        truth: folder of a manifest; None for a page that shows what was found, without metrics.
        folder: where the page goes.
        options: how scores are read and judged.
        extras: what else is made.
        progress: told what goes on.
        say: told of every kind of thing that could not be shown, and every note of the page.

    Raises:
        LengthMismatch, PipelineError: scores cannot be read, or are not of the same videos.
    """
    with tempfile.TemporaryDirectory(prefix="gig-report-") as scratch:
        results = _Reading(truth, options or TableOptions(), folder, Path(scratch)).results(sources)
        if say:
            for note in results.notes:
                say(f"note: {note}")
            if truth and results.quarantined:
                say(f"{WARNING}{quarantine_note(dict(results.quarantined))}")
        write_report(results, folder, extras, progress, say)


@dataclass(frozen=True)
class _Timed(KnownVideos):
    """Gives frame numbers in place of times where nothing tells these, and remembers the videos; those too whose times
    are of a frame rate."""

    untimed: set[str] = field(default_factory=set)
    by_rate: set[str] = field(default_factory=set)

    def times(self, video_id: str, frames: int) -> np.ndarray:
        if self.same_fps or self.fps.get(video_id):
            self.by_rate.add(video_id)
            return super().times(video_id, frames)
        self.untimed.add(video_id)
        return np.arange(frames, dtype=np.float64)


@dataclass(frozen=True)
class _Read:
    """Scores of one system that have been read.

    Attributes:
        run: where they lie now.
        videos: video id -> number of frames.
        paths: video id -> where the video lies, as far as that is known.
        notes: what should be known of them.
    """

    run: RunResults
    videos: dict[str, int]
    paths: dict[str, str]
    notes: tuple[str, ...]


class _Reading:
    def __init__(self, truth: Path | None, options: TableOptions, folder: Path, scratch: Path) -> None:
        self.truth, self.options, self.folder, self.scratch = truth, options, folder, scratch
        self.manifest = _manifest(truth, options.lengths) if truth else None
        self.quarantined: dict[str, str] = {}
        frames, rates, sources = options.lengths, {}, {}
        if self.manifest:
            frames = {entry.video_id: entry.packets for entry in self.manifest.videos}
            rates = {entry.video_id: entry.fps for entry in self.manifest.videos if entry.fps > 0}
            sources = sources_of(self.manifest)
        self.known = _Timed(frames, rates, options.fps, sources)

    def results(self, sources: Sequence[Source]) -> Results:
        """Read and judge all sources."""
        options, truth = self.options, self.truth
        read = [self._read(number, source) for number, source in enumerate(sources)]
        first, manifest = read[0], self.manifest
        for source, other in zip(sources, read, strict=True):
            if differing := sorted(first.videos.keys() ^ other.videos.keys()):
                raise PipelineError(
                    f"{source.path}: expected scores of the same {len(first.videos)} videos as in {sources[0].path}, "
                    f"got {len(other.videos)}: only one of them has {', '.join(differing[:5])}"
                )
        if manifest:
            named = {entry.video_id for entry in manifest.videos} - first.videos.keys()
            self.quarantined = {v: reason for v, reason in self.quarantined.items() if v in named}
            manifest = _without(manifest, self.quarantined)
        notes = [note for one in read for note in one.notes]
        if untimed := sorted(self.known.untimed):
            some = f"{untimed[0]} and {len(untimed) - 1} other video(s)" if len(untimed) > 1 else untimed[0]
            notes.append(UNTIMED.format(some))
        settings = [("evaluation", to_yaml(options.evaluation))] if truth else []
        settings.append(("events", to_yaml(options.events)))
        return Results(
            experiment=", ".join(source.name for source in sources),
            digest="",
            dataset="",
            adapter="",
            manifest=manifest or _unlabelled(read),
            runs=tuple(one.run for one in read),
            quarantined=tuple(self.quarantined.items()),
            config="\n".join(f"# {name}\n{text}" for name, text in settings),
            events=options.events,
            inside=self.folder,
            may_be_short=bool(truth and options.form.clip_frames),
            with_truth=truth is not None,
            timed=not untimed,
            by_rate=frozenset(self.known.by_rate),
            notes=tuple(dict.fromkeys(notes)),
        )

    def _read(self, number: int, source: Source) -> _Read:
        evaluation = self._evaluate(source)
        if source.indexed:
            return self._indexed(source, evaluation)
        options, known = self.options, self.known
        classes = self.manifest.classes if self.manifest else options.classes
        scored = open_scores(source.path, classes, known, options.form)
        folder = self.scratch / str(number)
        tables = ScratchTables(folder, scored.classes)
        for video in scored.videos:
            tables.add(video)
        notes, reach = (() if self.truth else scored.notes), tables.reach
        if reach:
            low, high = reach
            notes += (
                f"The scores of {source.name} lie from {low:.4g} to {high:.4g}. This page shows them from 0 for the "
                "lowest to 1 for the highest, and finds events in them so; there are no metrics of events.",
            )
        run = RunResults(source.name, "", tables.close(), evaluation, str(source.path), reach)
        return _Read(run, tables.frames, tables.paths, notes)

    def _indexed(self, source: Source, evaluation: Path | None) -> _Read:
        """A folder of this system: its tables are read where they lie."""
        if self.options.form != ScoreForm(clip_frames=self.options.form.clip_frames):
            raise PipelineError(
                f"{source.path}: these tables hold a score for every frame; how scores are read is for others"
            )
        index = read_index(source.path)
        self.quarantined |= read_quarantined(source.path)
        if not self.truth:
            self.quarantined |= quarantine_of(source.path).reasons("test")
        videos: dict[str, Any] = index["videos"]
        paths = {v: facts["source"]["path"] for v, facts in videos.items() if facts.get("source")}
        run = RunResults(source.name, "", source.path, evaluation, str(source.path))
        frames = {video_id: facts["decoded_frames"] for video_id, facts in videos.items()}
        return _Read(run, frames, paths, tuple(index.get("warnings") or ()))

    def _evaluate(self, source: Source) -> Path | None:
        if self.truth is None:
            return None
        folder, options = self.folder / f"evaluation-{escape(source.name)}", self.options
        form = ScoreForm(clip_frames=options.form.clip_frames) if source.indexed else options.form
        evaluate_tables(
            source.path,
            self.truth,
            folder,
            options.evaluation,
            form=form,
            lengths=options.lengths,
            events=EventOptions(options.events),
        )
        return folder


def _manifest(folder: Path, lengths: Mapping[str, int] | None) -> Manifest:
    """The test videos of a manifest, with their annotations; those of a generated data set lie beside it."""
    manifest, known = load(folder, truth=True), lengths or {}
    if isinstance(manifest.root, Path) and not manifest.root.exists():
        manifest = replace(manifest, root=folder)
    test = (replace(entry, packets=known.get(entry.video_id, entry.packets)) for entry in manifest.split("test"))
    return replace(manifest, videos=tuple(test))


def _without(manifest: Manifest, video_ids: Collection[str]) -> Manifest:
    """A manifest of test videos without some of them, with what is annotated of the others."""
    videos = tuple(entry for entry in manifest.videos if entry.video_id not in video_ids)
    intervals = tuple(interval for interval in manifest.intervals or () if interval.video_id not in video_ids)
    return replace(manifest, videos=videos, intervals=intervals)


def _unlabelled(read: Sequence[_Read]) -> Manifest:
    """A manifest of what the tables say of their videos, with nothing annotated."""
    named = {one.run.classes: one.run.title for one in read if one.run.classes}
    if len(named) > 1:
        told = "; ".join(f"{title}: {', '.join(classes)}" for classes, title in named.items())
        raise PipelineError(f"expected scores of the same classes, got {told}")
    paths = {video_id: path for one in reversed(read) for video_id, path in one.paths.items()}
    videos = []
    for video_id, frames in sorted(read[0].videos.items()):
        path = Path(paths.get(video_id, ""))
        size = path.stat().st_size if path.is_file() else 0
        told = paths.get(video_id, "")
        videos.append(VideoEntry(video_id, told, "test", (), None, 0, 0, 0.0, frames, size))
    return Manifest(Path(), next(iter(named), ()), tuple(videos), ())
