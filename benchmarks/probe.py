"""What could a head see? A linear probe with strong labels, on the vectors that each reduction of an ablation keeps.

Weakly supervised heads know the labels of whole training videos. This probe (ridge regression on standardized vectors)
is fitted to the same training videos, but knows from `boxes.csv` where they show the anomaly. It is judged on the
windows of the test videos, and its penalty is chosen on held-out training cameras. Where its AUC is near 0.5, the
features say little about the anomaly that a linear layer could use. For reductions that choose cells, the share of test
windows whose anomaly lies in a chosen cell is given for every class.

It is fitted to the segments that heads are trained on, anomalous if any of their frames shows an anomaly; or, with
`--fit-to windows`, to windows of the training videos like those of the test videos, which are more, and anomalous if
their middle frame shows an anomaly. These windows are extracted if they are not in the cache. Then only anomaly in
general is judged.

    python benchmarks/probe.py --config configs/ablations/synthetic_city.yaml

runs after `gig ablate` with the same file, whose reduced features it reads. It is a diagnosis that uses the ground
truth, and chooses nothing for the heads.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, write_result
from cache import FeatureStore
from pipeline.config.ablation import Setting, load_ablation
from pipeline.data.manifest import Manifest
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.evaluation.localisation import anomaly_cells
from pipeline.stages.extraction.extract import extract_split
from pipeline.stages.training.bags_on_disk import read_training, read_windows
from pipeline.stages.training.windows import reduce_windows

ALPHAS = (1e2, 1e3, 1e4, 1e5)


@dataclass(frozen=True)
class Windows:
    """N windows.

    Attributes:
        vectors: (N, D).
        truth: (N, C) bool, the classes that each shows.
        videos: (N,) ids of their videos.
    """

    vectors: np.ndarray
    truth: np.ndarray
    videos: np.ndarray

    def of(self, chosen: np.ndarray) -> Windows:
        """The windows where `chosen`, (N,) bool, is true."""
        return Windows(self.vectors[chosen], self.truth[chosen], self.videos[chosen])


def training_segments(setting: Setting, recipes: Recipes, manifest: Manifest) -> Windows:
    """The segments of all views of the training videos; one is anomalous if any of its frames has a box."""
    store, namespace = FeatureStore.open(setting.experiment.paths.cache), recipes.namespace("train")
    boxes = _boxes(manifest)
    bags, _ = read_training(recipes.reduced_folder(setting.runs[0], "train"), 0.0)
    vectors, truth, videos = [], [], []
    for video_id, patterns in zip(bags.video_ids, bags.patterns, strict=True):
        frames = store.reader(namespace, video_id).frames()  # (V, T, L)
        for clip, vector in zip(
            frames.reshape(-1, frames.shape[-1]).tolist(), patterns.flatten(0, 1).numpy(), strict=True
        ):
            shown = {boxes.get(video_id, {}).get(frame) for frame in clip}
            vectors.append(vector)
            truth.append([label in shown for label in manifest.classes])
            videos.append(video_id)
    return Windows(np.stack(vectors), np.array(truth), np.array(videos))


def training_windows(setting: Setting, recipes: Recipes, manifest: Manifest) -> Windows:
    """The windows of the training videos, sampled as those of test videos, with the classes of their middle frames."""
    experiment, run = setting.experiment, setting.experiment.run(setting.runs[0])
    namespace, entries = recipes.namespace("validation"), manifest.split("train")
    extract_split(experiment, manifest, "test", entries, namespace, recipes.quarantine)
    store, boxes = FeatureStore.open(experiment.paths.cache), _boxes(manifest)
    folder = recipes.reduced_folder(setting.runs[0], "train")
    _, standardizer = read_training(folder, run.head.standardize_offset)
    vectors, truth, videos = [], [], []
    for entry in entries:
        found = [piece.vectors[0] for piece in reduce_windows(store, namespace, entry.video_id, run.head, standardizer)]
        frames = store.reader(namespace, entry.video_id).frames()[0]
        shown = [boxes.get(entry.video_id, {}).get(int(middle)) for middle in (frames[:, 0] + frames[:, -1]) // 2]
        vectors.append(torch.cat(found).numpy())
        truth += [[label == each for label in manifest.classes] for each in shown]
        videos += [entry.video_id] * len(shown)
    return Windows(np.concatenate(vectors), np.array(truth), np.array(videos))


def _boxes(manifest: Manifest) -> dict[str, dict[int, str]]:
    """By video and frame, the class that is shown."""
    boxes: dict[str, dict[int, str]] = {}
    with (manifest.root / "boxes.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            boxes.setdefault(row["video_id"], {})[int(row["frame"])] = row["label"]
    return boxes


def test_windows(setting: Setting, recipes: Recipes, manifest: Manifest) -> tuple[Windows, dict[str, list[bool]]]:
    """The windows of the test videos with the classes of their middle frames, and class -> hits of chosen cells."""
    store, namespace = FeatureStore.open(setting.experiment.paths.cache), recipes.namespace("test")
    folder = recipes.reduced_folder(setting.runs[0], "test")
    cells = anomaly_cells(setting.experiment, manifest)
    vectors, truth, videos, hits = [], [], [], {label: [] for label in manifest.classes}
    for entry in manifest.split("test"):
        _, found, positions, _ = next(read_windows(folder, entry.video_id))
        reader = store.reader(namespace, entry.video_id)
        frames = reader.frames()[0]
        middles = (frames[:, 0] + frames[:, -1]) // 2
        labels = manifest.frame_labels(entry.video_id, len(reader.times()))[middles]
        vectors.append(found[0].numpy())
        truth.append(labels)
        videos += [entry.video_id] * len(middles)
        for middle, chosen, row in zip(middles.tolist(), positions[0].tolist(), labels, strict=True):
            shown = cells.get((entry.video_id, middle))
            if shown and chosen and row.sum() == 1:
                hits[manifest.classes[int(row.argmax())]].append(not shown.isdisjoint(chosen))
    return Windows(np.concatenate(vectors), np.concatenate(truth), np.array(videos)), hits


def probe(training: Windows, test: Windows, cameras: np.ndarray, classes: Sequence[str]) -> dict:
    """AUC on the test windows: of anomaly in general, and of some classes, each by its own probe, against normal."""
    found = {"auc": _judged(training, test, cameras, training.truth.any(axis=1), test.truth.any(axis=1))}
    for c, label in enumerate(classes):
        kept_training, kept_test = (windows.truth[:, c] | ~windows.truth.any(axis=1) for windows in (training, test))
        some, unseen = training.of(kept_training), test.of(kept_test)
        found[label] = _judged(some, unseen, cameras[kept_training], some.truth[:, c], unseen.truth[:, c])
    return {name: round(value, 3) for name, value in found.items()}


def _judged(training: Windows, test: Windows, cameras: np.ndarray, wanted: np.ndarray, truth: np.ndarray) -> float:
    model = make_pipeline(StandardScaler(), RidgeClassifier(class_weight="balanced", solver="lsqr"))
    search = GridSearchCV(model, {"ridgeclassifier__alpha": ALPHAS}, scoring="roc_auc", cv=GroupKFold(4))
    search.fit(training.vectors, wanted, groups=cameras)
    return float(roc_auc_score(truth, search.decision_function(test.vectors)))


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/ablations/synthetic_city.yaml"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/probe_synthetic_city.json"))
    parser.add_argument("--fit-to", choices=("segments", "windows"), default="segments")
    parser.add_argument("--only", nargs="+", metavar="SETTING", help="Not the reductions of all settings.")
    options = parser.parse_args()
    segments = options.fit_to == "segments"
    lines, seen = {}, set()
    for setting in load_ablation(options.config).settings:
        recipes = Recipes(setting.experiment)
        folder = recipes.reduced_folder(setting.runs[0], "test")
        if folder in seen or (options.only and setting.name not in options.only):
            continue
        seen.add(folder)
        manifest = load_manifest(setting.experiment, recipes.manifest_folder, truth=True)
        training = (training_segments if segments else training_windows)(setting, recipes, manifest)
        test, hits = test_windows(setting, recipes, manifest)
        sources = {entry.video_id: entry.source for entry in manifest.split("train")}
        cameras = np.array([sources[video_id] for video_id in training.videos])
        line = {
            "training": len(training.vectors),
            "test": len(test.vectors),
            "anomalous": int(test.truth.any(axis=1).sum()),
        }
        line |= {"probe": probe(training, test, cameras, manifest.classes if segments else ())}
        if segments and any(hits.values()):
            line["hit_rate"] = {label: round(float(np.mean(found)), 3) for label, found in hits.items() if found}
        lines[setting.name] = line
        print(setting.name, json.dumps(line), flush=True)
    document = {"command": command_line(), "reductions": lines}
    write_result(options.out, document)


if __name__ == "__main__":
    main()
