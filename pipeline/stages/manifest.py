"""Stage 0: from a data set's own files to the manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cache.names import escape
from pipeline.config import CsvDataset, Experiment, SyntheticCityDataset, SyntheticDataset, to_yaml
from pipeline.data import synthetic
from pipeline.data.checks import Problems
from pipeline.data.datasets import build
from pipeline.data.manifest import Manifest, load, save
from pipeline.data.workers import DecodeWorkers
from pipeline.stages.recipes import Progress
from pipeline.stages.sources import max_pixels

__all__ = ["build_manifest", "load_manifest", "synthetic_spec"]


def synthetic_spec(dataset: SyntheticDataset) -> synthetic.SyntheticSpec:
    """The generator's specification of a synthetic data set's section."""
    kind = synthetic.CitySpec if isinstance(dataset, SyntheticCityDataset) else synthetic.SyntheticSpec
    return kind(**dataset.model_dump(exclude={"adapter", "name"}))


def build_manifest(
    experiment: Experiment, folder: Path, progress: Progress | None = None, say: Callable[[str], None] | None = None
) -> Manifest:
    """Validate the data set and write its manifest to `folder`; a synthetic data set is rendered there first.

    Args:
        experiment: whose data set.
        folder: of the manifest.
        progress: told what goes on.
        say: told every warning; they are in manifest.json too.

    Raises:
        ManifestError: listing every problem of the annotation files at once.
    """
    dataset = experiment.dataset
    folder.mkdir(parents=True, exist_ok=True)

    def counted(message: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(done, total, message)) if progress else None

    journal = folder.parent / "headers.jsonl"  # outlives this manifest: a corrected annotation reads no video again
    if isinstance(dataset, SyntheticDataset):
        synthetic.generate(synthetic_spec(dataset), folder, counted("rendering"))
        files = {"root": folder, "annotations": Path("annotations.csv")}
        dataset, journal = CsvDataset(adapter="csv", name=dataset.name, classes=dataset.classes, **files), None
    machine = experiment.machine
    workers = DecodeWorkers(machine.decode_workers, machine.decode_timeout_s, max_pixels=max_pixels(experiment.decoding))
    manifest = build(dataset, workers=workers, journal=journal, progress=counted("reading headers"))
    _check_keys(manifest)
    unreadable = sum(entry.packets == 0 for entry in manifest.videos)
    if unreadable and progress:
        progress(len(manifest.videos), len(manifest.videos), f"read headers; {unreadable} cannot be read")
    for warning in manifest.origin.warnings if say else ():
        say(f"warning: {warning}")
    save(manifest, folder)
    (folder / "config.yaml").write_text(to_yaml(experiment), encoding="utf-8")
    return manifest


def _check_keys(manifest: Manifest) -> None:
    """Raise ManifestError for video ids that the cache could not tell apart."""
    problems, keys = Problems(), {}
    for entry in manifest.videos:
        other = keys.setdefault(escape(entry.video_id), entry.video_id)
        if other != entry.video_id:
            problems.add("video_id", f"{entry.video_id!r} and {other!r} have the same key {escape(other)!r}; rename one")
    problems.raise_any()


def load_manifest(experiment: Experiment, folder: Path, *, truth: bool = False) -> Manifest:
    """Read a manifest written by `build_manifest`; a synthetic data set lies beside it. `truth` as `manifest.load`."""
    manifest = load(folder, truth=truth)
    return replace(manifest, root=folder) if isinstance(experiment.dataset, SyntheticDataset) else manifest
