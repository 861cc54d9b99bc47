"""How many labelled training videos are needed: AUC on the test videos against their number.

CONFIG is a file of `gig ablate` whose grid has `selection.train_videos`. What is not there is made; then the figures
are written to benchmarks/results and the curve to docs/images, both under the name of the experiment.

    python benchmarks/labelled_videos.py --config configs/ablations/synthetic_city_videos.yaml
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.results_file import command_line, machine, write_result
from pipeline.ablation.ablate import run_ablation
from pipeline.ablation.curve import Point, curves
from pipeline.config.ablation import Plan, load_ablation
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.recipes import Recipes


def data_facts(plan: Plan) -> dict:
    """Name, backbone, and the numbers of normal and anomalous videos of each split."""
    experiment = plan.experiments[0]
    recipes = Recipes(experiment)
    manifest = load_manifest(experiment, recipes.manifest_folder, truth=True)
    kinds = {split: [bool(video.labels) for video in manifest.split(split)] for split in ("train", "test")}
    return {
        "experiment": experiment.experiment,
        "backbone": experiment.backbone.name,
        "weights": recipes.weights_digest,
    } | {split: {"normal": flags.count(False), "anomalous": flags.count(True)} for split, flags in kinds.items()}


def table(lines: dict[str, list[Point]]) -> str:
    """The curves as a markdown table: a line per setting, a column per number of videos."""
    counts = sorted({point.videos for points in lines.values() for point in points})
    rows = [f"| labelled training videos | {' | '.join(map(str, counts))} |", "|---" * (len(counts) + 1) + "|"]
    for name, points in lines.items():
        cells = {point.videos: f"{point.mean:.3f}{_interval(point)}" for point in points}
        rows.append(f"| `{name}` | {' | '.join(cells.get(count, '-') for count in counts)} |")
    return "\n".join(rows)


def _interval(point: Point) -> str:
    return "" if point.low is None else f" ({point.low:.3f} to {point.high:.3f})"


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/ablations/synthetic_city_videos.yaml"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    plan = load_ablation(options.config)
    folder = run_ablation(plan, options.workers)
    rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))["settings"]
    lines = curves(plan, rows)
    if not lines:
        raise SystemExit(f"{options.config}: expected several values of selection.train_videos in its grid")
    facts = data_facts(plan)
    name = f"labelled_videos_{facts['experiment']}"
    plain = {setting: [asdict(point) for point in points] for setting, points in lines.items()}
    document = {"command": command_line(), "machine": machine(), "seeds": list(plan.ablation.seeds), "data": facts}
    write_result(options.results / f"{name}.json", document | {"curves": plain, "settings": rows})
    options.images.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "curve.png", options.images / f"{name}.png")
    print(table(lines))


if __name__ == "__main__":
    main()
