"""Does the GIG + SR head find anomalies on data seeds not used during development, and does fine-tuning help?

For every data seed: render the fixture, extract, train, score and evaluate with the Luigi tasks, with several seeds of
the training, also with the head's own p and lambda3 in place of the configuration's, and with mean pooling in place of
spatial reasoning. There are two controls: the head trained on permuted video labels (chance is 0.5), and the score of
nothing trained, the length of the pattern vector. Where the configuration fine-tunes, there are also the metrics of the
fine-tuned stage. Prints one line per seed and writes all as JSON.

    python benchmarks/fixture_seeds.py --seeds 101 102 103 --permutations 10
    python benchmarks/fixture_seeds.py --config configs/fixture_finetune.yaml --permutations 0 --out <file>
    python benchmarks/fixture_seeds.py --backbone tpn_tiny --out <file>
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import luigi
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, write_result
from pipeline.config import load_experiment
from pipeline.config.heads import GigHead
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.evaluation.summary import read_summary
from tasks import EvaluateAll

TRAINING_SEEDS = (0, 1, 2)
DEFAULT_LOSSES = {"head": {name: GigHead.model_fields[name].default for name in ("p", "lambda3")}}


def run_seed(base: dict, seed: int, permutations: int, folder: Path) -> dict[str, dict]:
    """All runs of one data seed: run -> its line of the summary."""
    trainings = {f"gig-{i}": {"training": {"seed": i}} for i in TRAINING_SEEDS[1:]}
    defaults = {f"defaults-{i}": DEFAULT_LOSSES | {"training": {"seed": i}} for i in TRAINING_SEEDS}
    pooled = {f"mean-{i}": {"head": {"reduction": "mean"}, "training": {"seed": i}} for i in TRAINING_SEEDS}
    controls = [{"training": {"permute_labels_seed": i}} for i in range(permutations)]
    data = base | {
        "experiment": f"{base['experiment']}-seed-{seed}",
        "dataset": base["dataset"] | {"seed": seed},
        "runs": {"gig": {}, "untrained": {"head": {"name": "pattern_norm"}}}
        | trainings
        | defaults
        | pooled
        | {f"permuted-{i}": control for i, control in enumerate(controls)}
        | {f"defaults-permuted-{i}": DEFAULT_LOSSES | control for i, control in enumerate(controls)},
        "evaluation": base.get("evaluation", {}) | {"resamples": 0},  # no intervals are read
        "paths": {"output": str(folder), "cache": str(folder / "cache")},
    }
    config = folder / f"seed-{seed}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(data), encoding="utf-8")
    if not luigi.build([EvaluateAll(config=str(config))], local_scheduler=True, log_level="WARNING"):
        raise SystemExit(f"seed {seed}: the pipeline failed, see the messages above")
    rows = read_summary(Recipes(load_experiment(config)).summary_folder)["runs"]
    return {row["run"] if row["stage"] == "frozen" else f"{row['run']} finetuned": row for row in rows}


def metrics_of(runs: dict[str, dict]) -> dict:
    """What the result says of one data seed, from the lines of its runs."""

    def aucs(*names: str) -> list[float]:
        return [runs[name]["auc"] for name in names]

    permuted, defaults = ([name for name in runs if name.startswith(f"{kind}permuted")] for kind in ("", "defaults-"))
    gig = runs["gig"]
    return {
        "auc": gig["auc"],
        "ap": gig["ap"],
        "mf1": gig["mf1"],
        "auc_by_training_seed": aucs("gig", *(f"gig-{i}" for i in TRAINING_SEEDS[1:])),
        "auc_by_training_seed_defaults": aucs(*(f"defaults-{i}" for i in TRAINING_SEEDS)),
        "auc_by_training_seed_mean_pooling": aucs(*(f"mean-{i}" for i in TRAINING_SEEDS)),
        "auc_untrained": runs["untrained"]["auc"],
        "auc_permuted": aucs(*permuted),
        "auc_permuted_mean": statistics.mean(aucs(*permuted)) if permuted else None,
        "auc_permuted_mean_defaults": statistics.mean(aucs(*defaults)) if defaults else None,
        "hit_rate": gig["hit_rate"],
        "hit_rate_chance": gig["hit_rate_chance"],
    }


def spread(lines: list[dict], key: str) -> dict[str, float]:
    """Mean and range of lists of values over all data seeds."""
    values = [value for line in lines for value in line[key]]
    return {"mean": statistics.mean(values), "min": min(values), "max": max(values)}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/fixture.yaml")
    parser.add_argument("--backbone", help="Another one with bundled weights.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    parser.add_argument("--permutations", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("var/fixture_seeds"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fixture_seeds.json"))
    options = parser.parse_args()
    base = yaml.safe_load(Path(options.config).read_text(encoding="utf-8"))
    if options.backbone:
        base["backbone"] = {"name": options.backbone, "weights": "bundled"}
    lines = []
    for seed in options.seeds:
        start = time.monotonic()
        runs = run_seed(base, seed, options.permutations, options.folder)
        lines.append({"data_seed": seed, **metrics_of(runs), "seconds": round(time.monotonic() - start, 1)})
        if tuned := runs.get("gig finetuned"):
            lines[-1] |= {f"{key}_finetuned": tuned[key] for key in ("auc", "ap", "mf1", "hit_rate")}
        print(json.dumps(lines[-1]), flush=True)
    result = {
        "command": command_line(),
        "config": options.config,
        "backbone": base["backbone"]["name"],
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "auc_mean": statistics.mean(line["auc"] for line in lines),
        "auc_min": min(line["auc"] for line in lines),
        "auc_of_all_trainings": spread(lines, "auc_by_training_seed"),
        "auc_of_all_trainings_defaults": spread(lines, "auc_by_training_seed_defaults"),
        "auc_of_all_trainings_mean_pooling": spread(lines, "auc_by_training_seed_mean_pooling"),
        "seeds": lines,
    }
    if all("auc_finetuned" in line for line in lines):
        result["auc_mean_finetuned"] = statistics.mean(line["auc_finetuned"] for line in lines)
    write_result(options.out, result)
    print(f"mean AUC {result['auc_mean']:.3f}, lowest {result['auc_min']:.3f}; written to {options.out}")


if __name__ == "__main__":
    main()
