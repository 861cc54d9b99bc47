"""Frozen and fine-tuned heads on real clips, compared with a forest that sees only width, height, fps and bytes.

Clips collected from the web differ in format by class, so a metric means something only above that of the forest. DATA
is a folder with a videos.csv (docs/own-videos.md) whose test videos have labels of whole videos; it should be split by
source.

    python benchmarks/shortcut.py DATA --classes Fighting --seeds 0 1 2

runs the pipeline with tpn_tiny and writes benchmarks/results/shortcut.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import luigi
import numpy as np
import yaml
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.forest import anomalous, folds_by_source, forest_scores
from benchmarks.results_file import write_result
from pipeline.config import load_experiment
from pipeline.data.manifest import Manifest
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.recipes import Recipes
from tasks import EvaluateAll


def forest_aucs(manifest: Manifest, draws: int = 10) -> tuple[list[float], list[float]]:
    """Video-level AUC of forests on the properties of the files, one value per draw.

    Returns:
        The AUCs on the test split, and those over five folds of all videos, split by source.
    """
    train, test, everything = manifest.split("train"), manifest.split("test"), manifest.videos
    truth = anomalous(everything)
    on_test, on_folds = [], []
    for seed in range(draws):
        on_test.append(roc_auc_score(anomalous(test), forest_scores(train, test, seed)))
        scores = np.empty(len(everything))
        for held_out in folds_by_source(everything, 5, seed):
            fitting = np.setdiff1d(np.arange(len(everything)), held_out)
            scores[held_out] = forest_scores([everything[i] for i in fitting], [everything[i] for i in held_out], seed)
        on_folds.append(roc_auc_score(truth, scores))
    return on_test, on_folds


def run_seed(arguments: argparse.Namespace, seed: int) -> tuple[dict, Manifest]:
    """Metrics of one seed of training and fine-tuning by stage, and the manifest with ground truth of whole videos."""
    base = yaml.safe_load(Path(arguments.config).read_text(encoding="utf-8"))
    dataset = {"adapter": "csv", "name": arguments.data.name, "root": str(arguments.data), "classes": arguments.classes}
    data = base | {"experiment": f"shortcut-{seed}", "dataset": dataset | {"whole_video_anomalous": True}}
    data["training"] = base["training"] | {"seed": seed}
    data["finetune"] = base["finetune"] | {"seed": seed}
    if arguments.epochs:
        data["finetune"]["epochs"] = arguments.epochs
    data["selection"] = {"validation_share": arguments.validation_share}
    data["paths"] = {"output": str(arguments.folder), "cache": str(arguments.folder / "cache")}
    config = arguments.folder / f"seed-{seed}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(data), encoding="utf-8")
    if not luigi.build([EvaluateAll(config=str(config))], local_scheduler=True, log_level="WARNING"):
        raise SystemExit(f"seed {seed}: the pipeline failed, see the messages above")
    recipes = Recipes(load_experiment(config))
    line: dict = {"seed": seed}
    for run, of_stage in recipes.lines:
        metrics = json.loads((of_stage.evaluation_folder(run) / "metrics.json").read_text(encoding="utf-8"))["figures"]
        line[of_stage.stage] = {name: metrics[name] for name in ("video_auc", "frame_auc")}
    line["finetune"] = json.loads((recipes.finetune_folder / "facts.json").read_text(encoding="utf-8"))
    return line, load_manifest(recipes.experiment, recipes.manifest_folder, truth=True)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--config", default="configs/fixture_finetune.yaml", help="All settings but the data set.")
    parser.add_argument("--epochs", type=int, help="Epochs of the fine-tuning, instead of those of the configuration.")
    parser.add_argument("--validation-share", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("var/shortcut"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/shortcut.json"))
    arguments = parser.parse_args()
    lines = []
    for seed in arguments.seeds:
        started = time.monotonic()
        line, manifest = run_seed(arguments, seed)
        lines.append(line | {"seconds": round(time.monotonic() - started, 1)})
        print(json.dumps(lines[-1]), flush=True)
    on_test, on_folds = forest_aucs(manifest)
    videos = manifest.split("test")
    result = {
        "data": arguments.data.name,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "test_videos": len(videos),
        "test_anomalous": sum(bool(v.labels) for v in videos),
        "video_auc_frozen_mean": statistics.mean(line["frozen"]["video_auc"]["value"] for line in lines),
        "video_auc_finetuned_mean": statistics.mean(line["finetuned"]["video_auc"]["value"] for line in lines),
        "video_auc_forest_on_the_test_split": statistics.mean(on_test),
        "video_auc_forest_over_folds_by_source": statistics.mean(on_folds),
        "seeds": lines,
    }
    write_result(arguments.out, result)
    print(json.dumps({key: value for key, value in result.items() if key != "seeds"}, indent=1))


if __name__ == "__main__":
    main()
