"""Do heads on frozen features of few real videos tell more than a forest that sees only the files?

CONFIG is a file of `gig ablate` whose base is of the csv adapter, with labels of whole videos and with sources. Its
settings are heads; each is trained with every sampling. A sampling is written SEGMENTS:TRAIN:TEST, the last two being
the distances between frames of training clips and of test windows.

First, inside the training part: for every seed the videos are divided into folds by source, and each fold is scored, as
test windows, by heads that were trained on the other folds. The scores of all folds are judged together, beside those
of the forest on the same folds. Then, once, on the test part: the first setting with the first sampling, the setting
that is best inside the training part, and the best one that learns nothing.

    python benchmarks/few_videos.py --config fights_heads.yaml --samplings 8:5:1 4:2:2 2:5:5
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.forest import anomalous, folds_by_source, forest_scores
from benchmarks.results_file import command_line, machine, write_result
from pipeline.ablation.ablate import run_ablation
from pipeline.config import Experiment
from pipeline.config.ablation import Plan, Setting, load_ablation
from pipeline.data.manifest import VideoEntry
from pipeline.metrics import difference, estimate
from pipeline.metrics.bootstrap import MetricFunction
from pipeline.metrics.ranking import Ranking
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.recipes import Recipes
from pipeline.stages.scoring.tables import read_tables
from pipeline.workflow import SILENT, Manifest, ensure

FOREST = "forest on the files"
RESAMPLES = 2000


@dataclass(frozen=True)
class Judged:
    """Scores of some videos by several systems, one row per seed.

    Attributes:
        videos: the V videos.
        scores: system -> (S, V), nan for a video that cannot be decoded.
        folds: (S, V), the fold in which a video was held out; all 0 on the test part.
    """

    videos: Sequence[VideoEntry]
    scores: Mapping[str, np.ndarray]
    folds: np.ndarray

    def aucs(self, system: str) -> list[float]:
        """The AUC of each seed."""
        return [float(one(np.ones((len(self.videos), 1)))["auc"][0]) for one in self._by_seed(system)]

    def within_folds(self, system: str) -> float:
        """Mean over seeds and folds of the AUC of one fold's videos, of the folds that have both kinds."""
        found = []
        for row, folds in zip(self._by_seed(system), self.folds, strict=True):
            inside = (folds[:, None] == np.unique(folds)).astype(float)
            found.append(np.nanmean(row(inside)["auc"]))
        return float(np.mean(found))

    def mean(self, system: str) -> MetricFunction:
        """The mean AUC of the seeds, as a function of the weights of the videos."""
        rows = self._by_seed(system)
        return lambda weights: {"auc": np.mean([row(weights)["auc"] for row in rows], axis=0)}

    def row(self, system: str) -> dict[str, Any]:
        """The AUC of a system with its interval, and its difference to the forest, over videos and over sources."""
        sources = sorted({entry.source or entry.video_id for entry in self.videos})
        member = np.array([sources.index(entry.source or entry.video_id) for entry in self.videos])

        def by_source(metric: MetricFunction) -> MetricFunction:
            return lambda weights: metric(weights[member])

        ours, forest, options = self.mean(system), self.mean(FOREST), {"resamples": RESAMPLES, "seed": 0, "needs": {}}
        alone = estimate([ours], len(self.videos), **options)["auc"]
        minus = difference([ours], [forest], len(self.videos), **options)["auc"]
        grouped = difference([by_source(ours)], [by_source(forest)], len(sources), **options)["auc"]
        return {
            "setting": system,
            "auc": alone.value,
            "interval": [alone.low, alone.high],
            "seeds": self.aucs(system),
            "within_folds": self.within_folds(system),
            "minus_forest": minus.value,
            "minus_forest_interval": [minus.low, minus.high],
            "minus_forest_interval_over_sources": [grouped.low, grouped.high],
        }

    def _by_seed(self, system: str) -> list[Callable[[np.ndarray], dict[str, np.ndarray]]]:
        truth, count = anomalous(self.videos), len(self.videos)
        rankings = []
        for row in self.scores[system]:
            there = np.flatnonzero(np.isfinite(row))
            rankings.append(Ranking.of(row[there], truth[there], there, count))
        return [lambda weights, ranking=ranking: {"auc": ranking.areas(weights).auc} for ranking in rankings]


def read_plan(config: Path, samplings: Sequence[str], folder: Path) -> Plan:
    """The settings of a file, each with every sampling; `head.p` is at most the number of segments."""
    data = yaml.safe_load(config.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    settings: list[Setting] = []
    for sampling in samplings:
        segments, train, test = (int(number) for number in sampling.split(":"))
        changed: dict[str, Any] = {}
        for name, sections in data["list"].items():
            head = dict(sections.get("head") or {})
            if "p" in head:
                head["p"] = min(head["p"], segments)
            changed[name] = sections | ({"head": head} if head else {})
        grid = {"train_sampling.segments": [segments], "train_sampling.interval_frames": [train]}
        grid |= {"test_sampling.interval_frames": [test]}
        file = folder / f"sampling-{sampling.replace(':', '-')}.yaml"
        document = data | {"list": changed, "grid": data.get("grid", {}) | grid}
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        plan = load_ablation(file)
        settings += [replace(setting, name=f"{setting.name} {sampling}") for setting in plan.settings]
    return replace(plan, settings=tuple(settings))


def on_list(plan: Plan, name: str, videos: Path, seeds: Sequence[int]) -> Plan:
    """The same settings on another list of videos and with some of the seeds; features in the cache are shared."""
    copies = {}
    for experiment in plan.experiments:
        dataset = experiment.dataset.model_copy(update={"videos": videos.resolve(), "whole_video_anomalous": True})
        update = {"dataset": dataset, "experiment": f"{experiment.experiment}-{name}"}
        copies[id(experiment)] = experiment.model_copy(update=update)
    return replace(
        plan,
        settings=tuple(
            replace(one, experiment=copies[id(one.experiment)], runs=tuple(one.runs[i] for i in seeds))
            for one in plan.settings
        ),
    )


def write_list(path: Path, train: Sequence[VideoEntry], test: Sequence[VideoEntry], normal: str) -> None:
    """Write a video list with these splits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["video_id", "path", "split", "label", "source"])
        for split, entries in (("train", train), ("test", test)):
            for one in entries:
                label = ";".join(one.known_labels) or normal
                table.writerow([one.video_id, one.path, split, label, one.source or ""])


def video_scores(experiment: Experiment, run: str, videos: Sequence[VideoEntry]) -> np.ndarray:
    """The highest frame score of each video by one run, (V,); nan for a video that cannot be decoded."""
    lengths = {entry.video_id: entry.packets for entry in videos}
    tables = read_tables(Recipes(experiment).scores_folder(run), experiment.dataset.classes, lengths).general
    return np.array([tables[v].max() if v in tables else np.nan for v in lengths])


def cross_validate(plan: Plan, entries: Sequence[VideoEntry], folds: int, options: argparse.Namespace) -> Judged:
    """Every setting on every fold of the training part; each seed has its own folds."""
    normal = plan.experiments[0].dataset.normal_label
    seeds = plan.ablation.seeds
    scores = {name: np.full((len(seeds), len(entries)), np.nan) for name in [FOREST, *(s.name for s in plan.settings)]}
    number_of = np.zeros((len(seeds), len(entries)), dtype=int)
    for row, seed in enumerate(seeds):
        for number, held_out in enumerate(folds_by_source(entries, folds, seed)):
            number_of[row, held_out] = number
            test = [entries[i] for i in held_out]
            train = [entries[i] for i in np.setdiff1d(np.arange(len(entries)), held_out)]
            name = f"seed-{seed}-fold-{number + 1}-of-{folds}"
            write_list(options.folder / f"{name}.csv", train, test, normal)
            here = on_list(plan, name, options.folder / f"{name}.csv", [row])
            run_ablation(here, options.workers)
            for one in here.settings:
                scores[one.name][row, held_out] = video_scores(one.experiment, one.runs[0], test)
            scores[FOREST][row, held_out] = forest_scores(train, test, seed)
            print(f"seed {seed}, fold {number + 1} of {folds} is done", flush=True)
    return Judged(entries, scores, number_of)


def judge_once(
    plan: Plan, train: Sequence[VideoEntry], test: Sequence[VideoEntry], options: argparse.Namespace
) -> Judged:
    """The settings trained on the whole training part, on the test part."""
    seeds = plan.ablation.seeds
    write_list(options.folder / "own-split.csv", train, test, plan.experiments[0].dataset.normal_label)
    here = on_list(plan, "own-split", options.folder / "own-split.csv", range(len(seeds)))
    run_ablation(here, options.workers)
    scores = {
        one.name: np.array([video_scores(one.experiment, run, test) for run in one.runs]) for one in here.settings
    }
    scores[FOREST] = np.array([forest_scores(train, test, seed) for seed in seeds])
    return Judged(test, scores, np.zeros((len(seeds), len(test)), dtype=int))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a markdown table."""
    lines = ["| setting | AUC | within folds | minus the forest | the same over sources |", "|---" * 5 + "|"]
    for row in rows:
        spans = [row[key] for key in ("interval", "minus_forest_interval", "minus_forest_interval_over_sources")]
        alone, minus, grouped = (f"({low:.3f} to {high:.3f})" for low, high in spans)
        lines.append(
            f"| {row['setting']} | {row['auc']:.3f} {alone} | {row['within_folds']:.3f} | "
            f"{row['minus_forest']:+.3f} {minus} | {grouped} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--samplings", nargs="+", required=True, metavar="SEGMENTS:TRAIN:TEST")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("var/few_videos"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    plan = read_plan(options.config, options.samplings, options.folder)
    recipes = Recipes(plan.experiments[0])
    ensure(Manifest(recipes), lambda step: nullcontext(SILENT))
    manifest = load_manifest(recipes.experiment, recipes.manifest_folder, truth=True)
    train, test = manifest.split("train"), manifest.split("test")

    inside = cross_validate(plan, train, options.folds, options)
    rows = sorted((inside.row(name) for name in inside.scores), key=lambda row: -row["auc"])
    print(table(rows), flush=True)
    learns = {one.name: one.experiment.run(one.runs[0]).head.name != "pattern_norm" for one in plan.settings}
    best = [
        next((row["setting"] for row in rows if learns.get(row["setting"]) is kind), None) for kind in (True, False)
    ]
    chosen = replace(plan, settings=tuple(s for s in plan.settings if s.name in {plan.settings[0].name, *best}))
    own = judge_once(chosen, train, test, options)
    own_rows = [own.row(name) for name in own.scores]
    print(table(own_rows))
    write_result(
        options.results / f"few_videos_{recipes.experiment.experiment}.json",
        {
            "command": command_line(),
            "machine": machine(),
            "backbone": recipes.experiment.backbone.name,
            "weights": recipes.weights_digest,
            "seeds": list(plan.ablation.seeds),
            "heads": yaml.safe_load(options.config.read_text(encoding="utf-8"))["list"],
            "videos": {
                part: {"normal": int((~anomalous(entries)).sum()), "anomalous": int(anomalous(entries).sum())}
                | {"sources": len({entry.source or entry.video_id for entry in entries})}
                for part, entries in (("train", train), ("test", test))
            },
            "folds_of_the_training_part": rows,
            "chosen": {"learns": best[0], "learns_nothing": best[1]},
            "test_part": own_rows,
        },
    )


if __name__ == "__main__":
    main()
