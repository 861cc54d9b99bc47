"""Stage 0: makes the manifest from a data set's own files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from cache.names import escape
from pipeline.config import CsvDataset, Experiment, GeneratedDataset, Run, SyntheticCityDataset, to_yaml
from pipeline.data.checks import check_divisions
from pipeline.data.datasets import Dataset, build
from pipeline.data.decoding.pool import DecodeWorkers
from pipeline.data.expected_counts import compared_counts, unexpected_counts
from pipeline.data.manifest import SPLITS, Manifest, VideoEntry, check_splits, load, save
from pipeline.data.partition import Division
from pipeline.data.problems import Problems
from pipeline.data.synthetic import generate as synthetic
from pipeline.progress import Progress, Say
from pipeline.remote import AnyPath, Copies, RemotePath

__all__ = [
    "build_manifest",
    "check_data_set",
    "check_validation",
    "division_of",
    "journal_of",
    "load_manifest",
    "reached",
    "synthetic_spec",
]

NAMED = 10  # unreadable videos that a warning names


def synthetic_spec(dataset: GeneratedDataset) -> synthetic.SyntheticSpec:
    """The generator's specification of a synthetic data set's section."""
    kind = synthetic.CitySpec if isinstance(dataset, SyntheticCityDataset) else synthetic.SyntheticSpec
    return kind(**dataset.model_dump(exclude={"adapter", "name"}))


def build_manifest(
    experiment: Experiment,
    folder: Path,
    progress: Progress | None = None,
    say: Say | None = None,
    *,
    test_only: bool = False,
) -> Manifest:
    """Validate the data set and write its manifest to `folder`; a synthetic data set is rendered there first.

    Args:
        experiment: settings.
        folder: where the manifest goes.
        progress: told what goes on.
        say: told every warning; they are in manifest.json too.
        test_only: leave the training videos out: such a manifest serves only to evaluate score tables.

    Raises:
        ManifestError: listing every problem of the annotation files at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(experiment.dataset, GeneratedDataset):
        synthetic.generate(synthetic_spec(experiment.dataset), folder, _counted(progress, "rendering"))
        manifest = _checked(experiment, _rendered(experiment.dataset, folder), None, progress, say, test_only)
    else:
        manifest = _checked(experiment, experiment.dataset, journal_of(folder.parent), progress, say, test_only)
    save(manifest, folder)
    (folder / "config.yaml").write_text(to_yaml(experiment), encoding="utf-8")
    return manifest


def check_data_set(
    experiment: Experiment, folder: Path, progress: Progress | None = None, say: Say | None = None
) -> Manifest | None:
    """Check all that `build_manifest` checks, without writing a manifest.

    The headers of the videos are kept, so `build_manifest` need not read them again.

    Args:
        experiment: settings.
        folder: where the experiment's manifests lie.
        progress: told what goes on.
        say: told every warning.

    Returns:
        What the manifest will be; None for a generated data set.

    Raises:
        ManifestError: as `build_manifest`.
    """
    dataset = experiment.dataset
    if isinstance(dataset, GeneratedDataset):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return _checked(experiment, dataset, journal_of(folder), progress, say)


def check_validation(experiment: Experiment, videos: Sequence[VideoEntry]) -> None:
    """Raise ManifestError if the training videos cannot be divided as a run asks."""
    problems = Problems()
    check_divisions(videos, _divisions(experiment), problems)
    problems.raise_any()


def _checked(
    experiment: Experiment,
    dataset: Dataset,
    journal: Path | None,
    progress: Progress | None,
    say: Say | None,
    test_only: bool = False,
) -> Manifest:
    machine = experiment.machine
    if isinstance(dataset.root, RemotePath):
        dataset = dataset.model_copy(update={"root": reached(dataset.root, experiment)})
    workers = DecodeWorkers(machine.decode_workers, machine.decode_timeout_s, max_pixels=experiment.decoding.max_pixels)
    told, divisions = _counted(progress, "reading headers"), _divisions(experiment)
    manifest = build(dataset, test_only=test_only, workers=workers, journal=journal, progress=told, divisions=divisions)
    _check_keys(manifest)
    if say:
        if not getattr(dataset, "frame_counts", None):  # then a length may be unknown, which the warnings say
            _warn_of_unreadable(manifest, ("test",) if test_only else SPLITS, divisions, say)
        for warning in manifest.origin.warnings:
            say(f"warning: {warning}")
        if unexpected_counts(experiment.expected, manifest):
            say(f"warning: {compared_counts(experiment.expected, manifest)}")
    return manifest


def _warn_of_unreadable(manifest: Manifest, splits: Sequence[str], divisions: Collection[Division], say: Say) -> None:
    """Name the videos that will go to quarantine, and what cannot be done without them."""
    lost = [entry for entry in manifest.videos if entry.packets == 0]
    if not lost:
        return
    names = [f"{entry.video_id} ({manifest.root / entry.path})" for entry in lost[:NAMED]]
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    say(f"warning: {len(lost)} of {len(manifest.videos)} videos cannot be read: {', '.join(names)}{more}")
    problems, rest = Problems(), [entry for entry in manifest.videos if entry.packets > 0]
    check_splits(rest, problems, splits)
    if not problems.lines and "train" in splits:
        check_divisions(rest, divisions, problems)
    for line in problems.lines:
        say(f"warning: without the videos that cannot be read: {line}")


def _rendered(dataset: GeneratedDataset, folder: Path) -> CsvDataset:
    """A generated data set as the files that were rendered to `folder`."""
    return CsvDataset(
        adapter="csv", name=dataset.name, classes=dataset.classes, root=folder, annotations=Path("annotations.csv")
    )


def journal_of(folder: Path) -> Path:
    """Where headers are kept: outside of any manifest, so that no video is read again for a corrected annotation."""
    return folder / "headers.jsonl"


def _counted(progress: Progress | None, message: str) -> Callable[[int, int], None] | None:
    return (lambda done, total: progress(done, total, message)) if progress else None


def division_of(run: Run) -> Division:
    """How a run divides the training videos."""
    selection = run.selection
    return Division(selection.validation_share, selection.seed, selection.train_videos, run.training.seed)


def _divisions(experiment: Experiment) -> list[Division]:
    """How the runs divide the training videos."""
    return [division_of(experiment.run(name)) for name in experiment.runs]


def _check_keys(manifest: Manifest) -> None:
    """Raise ManifestError for video ids that the cache could not tell apart."""
    problems = Problems()
    keys: dict[str, str] = {}
    for entry in manifest.videos:
        other = keys.setdefault(escape(entry.video_id), entry.video_id)
        if other != entry.video_id:
            problems.add(
                "video_id", f"{entry.video_id!r} and {other!r} have the same key {escape(other)!r}; rename one"
            )
    problems.raise_any()


def load_manifest(experiment: Experiment, folder: Path, *, truth: bool = False) -> Manifest:
    """Read a manifest written by `build_manifest`; a generated data set lies beside it.

    Args:
        experiment: settings.
        folder: the manifest.
        truth: read the annotated intervals too.
    """
    manifest = load(folder, truth=truth)
    if isinstance(experiment.dataset, GeneratedDataset):
        return replace(manifest, root=folder)
    return replace(manifest, root=reached(manifest.root, experiment))


def reached(path: AnyPath, experiment: Experiment) -> AnyPath:
    """A path as this machine reads it: one of a storage by way of copies, where they are asked for."""
    machine = experiment.machine
    if isinstance(path, Path) or machine.video_copies is None:
        return path
    return path.kept_in(Copies(machine.video_copies.absolute(), int(machine.video_copies_gb * 1e9)))
