"""What could a head see at best? A linear classifier with the truth of every window, on what each reduction of an ablation keeps.

Weakly supervised heads know the labels of videos alone; this classifier (ridge, standardized vectors) is told the truth of every
window of the test videos and judged on videos that it was not fitted to, in folds of whole videos. Where it is near 0.5, no head
on these features could do better, and the features are at fault. It chooses nothing: it is a diagnosis, made with the test truth.
For the reductions that choose cells the share of windows whose anomaly lies in a chosen cell is given for every class too.

    python benchmarks/ceiling.py --config configs/ablations/synthetic_city.yaml

after `gig ablate` with the same file, whose reduced features it reads.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parent.parent))

from cache import FeatureStore
from pipeline.config_ablation import Setting, load_ablation
from pipeline.data.manifest import Manifest
from pipeline.stages.localisation import anomaly_cells
from pipeline.stages.manifest import load_manifest
from pipeline.stages.recipes import Recipes
from pipeline.stages.reduced import read_windows


def collect(
    setting: Setting, recipes: Recipes, manifest: Manifest
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, list[bool]]]:
    """Vectors (N, D), the truth (N, C) at the windows' middle frames, the videos' numbers (N,), and hits by class."""
    store, namespace = FeatureStore.open(setting.experiment.paths.cache), recipes.namespace("test")
    folder = recipes.reduced_folder(setting.runs[0], "test")
    boxes = anomaly_cells(setting.experiment, manifest)
    vectors, truth, groups, hits = [], [], [], {label: [] for label in manifest.classes}
    for number, entry in enumerate(manifest.split("test")):
        _, found, positions = next(read_windows(folder, entry.video_id))
        reader = store.reader(namespace, entry.video_id)
        frames = reader.frames()[0]
        middles = (frames[:, 0] + frames[:, -1]) // 2
        labels = manifest.frame_labels(entry.video_id, len(reader.times()))[middles]
        vectors.append(found[0].numpy())
        truth.append(labels)
        groups.append(np.full(len(middles), number))
        for middle, chosen, row in zip(middles.tolist(), positions[0].tolist(), labels, strict=True):
            cells = boxes.get((entry.video_id, middle))
            if cells and chosen and row.sum() == 1:
                hits[manifest.classes[int(row.argmax())]].append(not cells.isdisjoint(chosen))
    return np.concatenate(vectors), np.concatenate(truth), np.concatenate(groups), hits


def ceiling(vectors: np.ndarray, truth: np.ndarray, groups: np.ndarray, classes: tuple[str, ...]) -> dict:
    """AUC of held-out videos' windows: an anomaly or not, and of every class against windows without an anomaly."""
    anomalous = truth.any(axis=1)
    scores = np.empty(len(vectors))
    for fit, judge in GroupKFold(6).split(vectors, groups=groups):
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=3000.0, class_weight="balanced"))
        scores[judge] = model.fit(vectors[fit], anomalous[fit]).decision_function(vectors[judge])
    found = {"auc": roc_auc_score(anomalous, scores)}
    for c, label in enumerate(classes):
        chosen = truth[:, c] | ~anomalous
        found[label] = roc_auc_score(truth[chosen, c], scores[chosen])
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/ablations/synthetic_city.yaml"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ceiling_synthetic_city.json"))
    options = parser.parse_args()
    lines, seen = {}, set()
    for setting in load_ablation(options.config).settings:
        recipes = Recipes(setting.experiment)
        folder = recipes.reduced_folder(setting.runs[0], "test")
        if folder in seen:
            continue
        seen.add(folder)
        manifest = load_manifest(setting.experiment, recipes.manifest_folder(), truth=True)
        vectors, truth, groups, hits = collect(setting, recipes, manifest)
        line = {"windows": len(vectors), "anomalous": int(truth.any(axis=1).sum())}
        line |= {"supervised": ceiling(vectors, truth, groups, manifest.classes)}
        if any(hits.values()):
            line["hit_rate"] = {label: round(float(np.mean(found)), 3) for label, found in hits.items() if found}
        lines[setting.name] = line
        print(setting.name, json.dumps(line), flush=True)
    options.out.write_text(
        json.dumps({"command": f"python benchmarks/ceiling.py --config {options.config}", "reductions": lines}, indent=1)
    )


if __name__ == "__main__":
    main()
