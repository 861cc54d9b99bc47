"""A wide scene whose events lie outside the centre crop, seen through the crop and as a whole.

Renders configs/fixture_wide.yaml for some data seeds and runs the whole pipeline twice on each: with the whole picture
as the configuration has it, and with a centre crop of the same height, which sees as much of the height. Prints one
line per seed and writes all as JSON.

    python benchmarks/wide_scene.py --seeds 201 202
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import luigi
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, machine, write_result
from pipeline.config import load_experiment
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.evaluation.summary import read_summary
from tasks import EvaluateAll

METRICS = ("auc", "auc_low", "auc_high", "ap", "mf1", "hit_rate", "hit_rate_chance")


def crop_of(height: int) -> dict[str, int]:
    """A centre crop of that height which sees 7/8 of the height of a picture, as 224 of 256."""
    return {"crop": height, "short_side": round(height * 8 / 7)}


def run(base: dict, name: str, preprocess: dict, folder: Path) -> dict[str, dict]:
    """The metrics of all runs of an experiment with another `preprocess`."""
    data = base | {"experiment": name, "preprocess": preprocess}
    data["paths"] = {"output": str(folder), "cache": str(folder / "cache")}
    config = folder / f"{name}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump(data), encoding="utf-8")
    if not luigi.build([EvaluateAll(config=str(config))], local_scheduler=True, log_level="WARNING"):
        raise SystemExit(f"{name}: the pipeline failed, see the messages above")
    rows = read_summary(Recipes(load_experiment(config)).summary_folder)["runs"]
    return {row["run"]: {metric: row[metric] for metric in METRICS} for row in rows}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/fixture_wide.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[201, 202])
    parser.add_argument("--folder", type=Path, default=Path("var/wide_scene"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/wide_scene.json"))
    options = parser.parse_args()
    base = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    fits = {"whole": base["preprocess"], "crop": crop_of(base["preprocess"]["height"])}
    lines = []
    for seed in options.seeds:
        seeded = base | {"dataset": base["dataset"] | {"seed": seed}}
        found = {fit: run(seeded, f"{fit}-{seed}", settings, options.folder) for fit, settings in fits.items()}
        lines.append({"data_seed": seed, **found})
        print(json.dumps(lines[-1]), flush=True)
    means = {fit: statistics.mean(line[fit]["gig"]["auc"] for line in lines) for fit in fits}
    document = {"command": command_line(), "machine": machine(), "preprocess": fits, "auc_mean": means, "seeds": lines}
    write_result(options.out, document)
    print(f"mean AUC: whole picture {means['whole']:.3f}, centre crop {means['crop']:.3f}; written to {options.out}")


if __name__ == "__main__":
    main()
