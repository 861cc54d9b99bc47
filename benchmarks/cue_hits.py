"""Do the chosen cells lie on the anomaly? Of every setting of an ablation, on the cameras of its validation split.

Choosing cells needs no trained head, so the settings can be compared before any is trained. The videos of the
validation split are cut into windows as test videos are (they are extracted once more, unless they are in the cache);
the channel statistics are those of the other training videos. A window is a hit when the middle of the anomaly at its
middle frame lies in a chosen cell. Intervals are of a bootstrap over videos, differences are paired with the first
setting that chooses cells. The test videos are not read.

    python benchmarks/cue_hits.py --config configs/ablations/synthetic_city_cues.yaml
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, write_result
from cache import FeatureStore
from pipeline.config.ablation import Setting, load_ablation
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.metrics.spatial import hit_rate
from pipeline.models.reduction import Standardizer
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.evaluation.localisation import anomaly_cells
from pipeline.stages.extraction.extract import extract_split
from pipeline.stages.training.training_set import held_out_videos, training_standardizer
from pipeline.stages.training.windows import reduce_windows

RESAMPLES = 2000


Windows = dict[str, list[tuple[list[int], set[int]]]]
"""Of every video with an anomaly in the picture its anomalous windows: chosen cells and cells of the anomaly."""
Statistics = dict[tuple[object, ...], Standardizer | None]


def hits_of_videos(
    setting: Setting, recipes: Recipes, manifest: Manifest, videos: list[VideoEntry], known: Statistics
) -> Windows:
    """The anomalous windows of these videos; `known` holds the channel statistics that settings share."""
    experiment = setting.experiment
    run, store = experiment.run(setting.runs[0]), FeatureStore.open(experiment.paths.cache)
    entries, source = manifest.split("train"), recipes.namespace("train")
    key = source, run.head.standardize, run.head.standardize_offset, run.selection
    if key not in known:
        known[key] = training_standardizer(run, store, source, entries, held_out_videos(run, entries))
    standardizer = known[key]
    cells, namespace = anomaly_cells(experiment, manifest, "train"), recipes.namespace("validation")
    found: Windows = {}
    for video in videos:
        frames = store.reader(namespace, video.video_id).frames()[0]
        middles = ((frames[:, 0] + frames[:, -1]) // 2).tolist()
        pieces = reduce_windows(store, namespace, video.video_id, run.head, standardizer)
        chosen = np.concatenate([piece.positions[0].numpy() for piece in pieces]).tolist()
        shown = [(own, cells.get((video.video_id, middle))) for own, middle in zip(chosen, middles, strict=True)]
        if windows := [(own, truth) for own, truth in shown if truth]:
            found[video.video_id] = windows
    return found


def counts(windows: Windows) -> np.ndarray:
    """(V, 2): hits and windows of every video."""
    return np.array([[sum(not t.isdisjoint(own) for own, t in each), len(each)] for each in windows.values()])


def resampled(table: np.ndarray) -> np.ndarray:
    """Hit rates (RESAMPLES,) of videos drawn with replacement, the same videos for every setting."""
    drawn = np.random.default_rng(0).integers(0, len(table), (RESAMPLES, len(table)))
    totals = table[drawn].sum(axis=1)
    rates: np.ndarray = totals[:, 0] / totals[:, 1]
    return rates


def summary(windows: Windows, labels: Mapping[str, str], positions: int) -> dict[str, object]:
    """The hit rate of all windows, its interval, and the rate of each class."""
    flat = [pair for each in windows.values() for pair in each]
    whole = hit_rate(np.array([own for own, _ in flat]), [truth for _, truth in flat], positions)
    table = counts(windows)
    line: dict[str, object] = {"hit_rate": round(whole.rate, 3), "chance": round(whole.chance, 3)}
    line |= {"interval": interval(resampled(table)), "windows": whole.windows, "videos": len(table)}
    names = np.array([labels[video_id] for video_id in windows])
    sums = {name: table[names == name].sum(axis=0) for name in sorted(set(names.tolist()))}
    return line | {"classes": {name: round(float(hits / all_), 3) for name, (hits, all_) in sums.items()}}


def interval(values: np.ndarray) -> list[float]:
    """The middle 95 %."""
    return [round(float(edge), 3) for edge in np.percentile(values, (2.5, 97.5))]


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/ablations/synthetic_city_cues.yaml"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cue_hits_synthetic_city.json"))
    options = parser.parse_args()
    lines: dict[str, dict[str, object]] = {}
    first: np.ndarray | None = None
    known: Statistics = {}
    for setting in load_ablation(options.config).settings:
        experiment, recipes = setting.experiment, Recipes(setting.experiment)
        run = experiment.run(setting.runs[0])
        if run.head.reduction != "spatial":
            continue
        manifest = load_manifest(experiment, recipes.manifest_folder)
        held_out = held_out_videos(run, manifest.split("train"))
        videos = [entry for entry in manifest.split("train") if entry.video_id in held_out]
        unreadable = Quarantine(recipes.folder / "cue-hits-unreadable")
        extract_split(experiment, manifest, "test", videos, recipes.namespace("validation"), unreadable)
        windows = hits_of_videos(setting, recipes, manifest, videos, known)
        labels = {video.video_id: video.labels[0] for video in videos if video.labels}
        shape = FeatureStore.open(experiment.paths.cache).reader(recipes.namespace("validation"), next(iter(windows)))
        lines[setting.name] = summary(windows, labels, shape.shape[2] * shape.shape[3])
        rates = resampled(counts(windows))
        if first is None:
            first = rates
        else:
            lines[setting.name]["minus_first"] = interval(rates - first)
        print(setting.name, lines[setting.name], flush=True)
    write_result(options.out, {"command": command_line(), "settings": lines})


if __name__ == "__main__":
    main()
