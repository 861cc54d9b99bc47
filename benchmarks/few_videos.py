"""Do heads on frozen features of few real videos tell more than a forest that sees only the files?

CONFIG is a file of `gig ablate` whose base is of the csv adapter, with labels of whole videos and with sources. Its
settings are heads; each is trained with every sampling. A sampling is written SEGMENTS:TRAIN:TEST, the last two being
the distances between frames of training clips and of test windows.

First, inside the training part: the videos are divided into folds by source, and each fold is scored, as test windows,
by heads that were trained on the other folds. The scores of all folds are judged together, beside those of the forest
on the same folds. Then, once, on the test part: the first setting with the first sampling, the setting
that is best inside the training part, the best one that learns nothing, and those of --also.

    python benchmarks/few_videos.py --config fights_heads.yaml --samplings 8:5:1 4:2:2 2:5:5
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.forest import anomalous, folds_by_source, forest_scores
from benchmarks.in_memory import HeldStore, fit_and_score
from benchmarks.results_file import command_line, machine, write_result
from pipeline.config import Experiment, digest
from pipeline.config.ablation import Plan, Setting, load_ablation
from pipeline.data.manifest import Manifest as VideoManifest
from pipeline.data.manifest import VideoEntry
from pipeline.metrics import difference, estimate
from pipeline.metrics.bootstrap import MetricFunction
from pipeline.metrics.ranking import Ranking
from pipeline.stages.common.manifest import load_manifest
from pipeline.stages.common.recipes import Recipes
from pipeline.workflow import SILENT, ExtractFeatures, Manifest, ensure

FOREST = "forest on the files"
RESAMPLES = 2000


@dataclass(frozen=True)
class Judged:
    """Scores of some videos by several systems, one row per seed.

    Attributes:
        videos: the V videos.
        scores: system -> (S, V).
        fold_of: (V,), the fold in which a video was held out; all 0 on the test part.
    """

    videos: Sequence[VideoEntry]
    scores: Mapping[str, np.ndarray]
    fold_of: np.ndarray

    def auc(self, system: str) -> MetricFunction:
        """The AUC, mean over seeds, as a function of the weights of the videos."""
        rankings = self._rankings(system)
        return lambda weights: {"auc": np.mean([ranking.areas(weights).auc for ranking in rankings], axis=0)}

    def minus(self, one: str, other: str) -> dict[str, Any]:
        """The AUC of one system minus that of another, with paired intervals: over videos, and over sources."""
        names = [entry.source or entry.video_id for entry in self.videos]
        sources, member = np.unique(names, return_inverse=True)

        def by_source(metric: MetricFunction) -> MetricFunction:
            return lambda weights: metric(weights[member])

        pair = self.auc(one), self.auc(other)
        found = {}
        for key, count, (left, right) in (
            ("interval", len(self.videos), pair),
            ("interval_over_sources", len(sources), (by_source(pair[0]), by_source(pair[1]))),
        ):
            found[key] = difference([left], [right], count, resamples=RESAMPLES, seed=0, needs={})["auc"]
        return {"value": found["interval"].value} | {key: [one.low, one.high] for key, one in found.items()}

    def row(self, system: str) -> dict[str, Any]:
        """The AUC of a system with its interval over videos, and its difference to the forest."""
        once = np.ones((len(self.videos), 1))
        inside = (self.fold_of[:, None] == np.unique(self.fold_of)).astype(float)
        auc = self.auc(system)
        alone = estimate([auc], len(self.videos), resamples=RESAMPLES, seed=0, needs={})["auc"]
        return {
            "setting": system,
            "auc": alone.value,
            "interval": [alone.low, alone.high],
            "seeds": [float(ranking.areas(once).auc[0]) for ranking in self._rankings(system)],
            "within_folds": float(np.nanmean(auc(inside)["auc"])),
            "minus_forest": self.minus(system, FOREST),
        }

    def _rankings(self, system: str) -> list[Ranking]:
        truth, count = anomalous(self.videos), len(self.videos)
        return [Ranking.of(row, truth, np.arange(count), count) for row in self.scores[system]]


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
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")  # the first setting stays so
        plan = load_ablation(file)
        settings += [replace(setting, name=f"{setting.name} {sampling}") for setting in plan.settings]
    return replace(plan, settings=tuple(settings))


def windows_of_training_part(plan: Plan, manifest: VideoManifest, folder: Path) -> list[Experiment]:
    """The experiments on the same videos with both parts exchanged, so that the training part is read as windows."""
    file = folder / "exchanged.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["video_id", "path", "split", "label", "source"])
        for one in manifest.videos:
            label = ";".join(one.known_labels) or plan.experiments[0].dataset.normal_label
            split = "test" if one.split == "train" else "train"
            rows.writerow([one.video_id, one.path, split, label, one.source or ""])
    exchanged = []
    for experiment in plan.experiments:
        dataset = experiment.dataset.model_copy(update={"videos": file.resolve()})
        update = {"dataset": dataset, "experiment": f"{experiment.experiment}-exchanged"}
        exchanged.append(experiment.model_copy(update=update))
    return exchanged


def extract(experiments: Sequence[Experiment], split: str) -> None:
    """Make the features of a split that are missing. Raises SystemExit for a video that cannot be read."""
    for experiment in experiments:
        recipes = Recipes(experiment)
        ensure(ExtractFeatures(recipes, split), lambda step: nullcontext(SILENT))
        if lost := recipes.quarantine.ids():
            raise SystemExit(f"expected videos that can all be read; in quarantine: {', '.join(sorted(lost))}")


def kept_scores(
    settings: Sequence[Setting],
    manifest: VideoManifest,
    train: Sequence[VideoEntry],
    test: Sequence[VideoEntry],
    store: HeldStore,
    folder: Path,
) -> dict[str, np.ndarray]:
    """As `fit_and_score`; what is found is kept in a folder, so that an interrupted run goes on."""
    ids = [[entry.video_id for entry in entries] for entries in (train, test)]
    files = {}
    for one in settings:
        recipes, runs = Recipes(one.experiment), [one.experiment.run(name) for name in one.runs]
        files[one.name] = folder / f"{digest(ids, *map(recipes.namespace, ('train', 'test')), *runs)}.npy"
    missing = [one for one in settings if not files[one.name].exists()]
    if missing:
        for name, found in fit_and_score(missing, manifest, train, test, store).items():
            np.save(files[name], found)
    return {name: np.load(file) for name, file in files.items()}


def cross_validate(plan: Plan, manifest: VideoManifest, folds: int, store: HeldStore, folder: Path) -> Judged:
    """Every setting on every fold of the training part; the folds are the same for all seeds."""
    entries = manifest.split("train")
    seeds = plan.ablation.seeds
    scores = {name: np.empty((len(seeds), len(entries))) for name in [FOREST, *(one.name for one in plan.settings)]}
    fold_of = np.empty(len(entries), dtype=int)
    groups: dict[str, list[Setting]] = {}
    for one in plan.settings:
        groups.setdefault(Recipes(one.experiment).namespace("train"), []).append(one)
    for number, held_out in enumerate(folds_by_source(entries, folds, seed=0)):
        fold_of[held_out] = number
        test = [entries[i] for i in held_out]
        train = [entries[i] for i in np.setdiff1d(np.arange(len(entries)), held_out)]
        for settings in groups.values():
            for name, found in kept_scores(settings, manifest, train, test, store, folder).items():
                scores[name][:, held_out] = found
        scores[FOREST][:, held_out] = [forest_scores(train, test, seed) for seed in seeds]
        print(f"fold {number + 1} of {folds} is done", flush=True)
    return Judged(entries, scores, fold_of)


def judge_once(
    settings: Sequence[Setting], manifest: VideoManifest, seeds: Sequence[int], store: HeldStore, folder: Path
) -> Judged:
    """Settings trained on the whole training part, on the test part."""
    train, test = manifest.split("train"), manifest.split("test")
    scores = {FOREST: np.array([forest_scores(train, test, seed) for seed in seeds])}
    for one in settings:
        scores |= kept_scores([one], manifest, train, test, store, folder)
    return Judged(test, scores, np.zeros(len(test), dtype=int))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a markdown table."""
    lines = ["| setting | AUC | within folds | minus the forest | its interval over sources |", "|---" * 5 + "|"]
    for row in rows:
        minus = row["minus_forest"]
        spans = [
            "(not defined)" if low is None else f"({low:.3f} to {high:.3f})"
            for low, high in (row["interval"], *list(minus.values())[1:])
        ]
        lines.append(
            f"| {row['setting']} | {row['auc']:.3f} {spans[0]} | {row['within_folds']:.3f} | "
            f"{minus['value']:+.3f} {spans[1]} | {spans[2]} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--samplings", nargs="+", required=True, metavar="SEGMENTS:TRAIN:TEST")
    parser.add_argument(
        "--compare", nargs=2, action="append", default=[], metavar="SETTING", help="Its difference too."
    )
    parser.add_argument("--also", action="append", default=[], metavar="SETTING", help="Judged on the test part too.")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("var/few_videos"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    plan = read_plan(options.config, options.samplings, options.folder)
    recipes = Recipes(plan.experiments[0])
    ensure(Manifest(recipes), lambda step: nullcontext(SILENT))
    manifest = load_manifest(recipes.experiment, recipes.manifest_folder, truth=True)
    extract(plan.experiments, "train")
    extract(windows_of_training_part(plan, manifest, options.folder), "test")
    store = HeldStore(str(recipes.experiment.paths.cache))

    inside = cross_validate(plan, manifest, options.folds, store, options.folder)
    rows = sorted((inside.row(name) for name in inside.scores), key=lambda row: -row["auc"])
    print(table(rows), flush=True)
    differences = [{"of": one, "minus": other, **inside.minus(one, other)} for one, other in options.compare]
    for found in differences:
        print(json.dumps(found))
    learns = {one.name: one.experiment.run(one.runs[0]).head.name != "pattern_norm" for one in plan.settings}
    best = [
        next((row["setting"] for row in rows if learns.get(row["setting"]) is kind), None) for kind in (True, False)
    ]
    chosen = [one for one in plan.settings if one.name in {plan.settings[0].name, *best, *options.also}]
    extract([one.experiment for one in chosen], "test")
    own = judge_once(chosen, manifest, plan.ablation.seeds, store, options.folder)
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
                for part, entries in ((part, manifest.split(part)) for part in ("train", "test"))
            },
            "folds_of_the_training_part": rows,
            "differences_in_the_folds": differences,
            "chosen": {"learns": best[0], "learns_nothing": best[1]},
            "test_part": own_rows,
        },
    )


if __name__ == "__main__":
    main()
