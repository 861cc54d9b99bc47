"""Settings on different features: what these cost, and on which videos the settings are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cache import CommitRecord, FeatureStore
from pipeline.config import Experiment
from pipeline.config.ablation import Plan
from pipeline.stages.common.digests import weights_identity
from pipeline.stages.common.recipes import Recipes

__all__ = ["Cost", "LeftOut", "check_weights", "feature_cost", "left_out"]


@dataclass(frozen=True)
class Cost:
    """What the features of test videos take.

    Attributes:
        map_shape: (H, W, D).
        bytes_per_hour: what the cache takes per hour of video, compressed; None where no record knows the frame rate.
    """

    map_shape: tuple[int, int, int]
    bytes_per_hour: float | None


@dataclass(frozen=True)
class LeftOut:
    """The videos in quarantine for some settings of a plan.

    Attributes:
        test: ids of those that no setting is judged on, because some settings cannot read them.
        training: for each different number of training videos in quarantine, the names of the settings with it; empty
            where all settings have the same training videos.
    """

    test: tuple[str, ...]
    training: Mapping[str, int]

    def sentences(self) -> list[str]:
        """What a reader of the table must know of it; nothing where all settings can read the same videos."""
        lines = []
        if self.test:
            lines.append(
                f"All settings are judged on the test videos that each of them can read: {len(self.test)} left out, "
                f"{', '.join(self.test)}."
            )
        if self.training:
            counts = ", ".join(f"{name} {count}" for name, count in self.training.items())
            lines.append(f"Not all settings are trained on the same videos; in quarantine are of {counts}.")
        return lines

    def to_json(self) -> dict[str, object]:
        """As plain data for JSON."""
        return {**asdict(self), "test": list(self.test)}


def check_weights(plan: Plan) -> None:
    """Raise WeightsError if the weights of a setting are not there, before any of them is used."""
    for experiment in plan.experiments:
        if not (experiment.features.train and experiment.features.test):
            weights_identity(experiment.backbone)


def left_out(plan: Plan) -> LeftOut:
    """Compare the quarantines of a plan; they differ only where the settings differ in `decoding`."""
    test: dict[int, set[str]] = {}
    training: dict[int, set[str]] = {}
    for experiment in plan.experiments:
        quarantine = Recipes(experiment).quarantine
        test[id(experiment)], training[id(experiment)] = set(quarantine.ids("test")), set(quarantine.ids("train"))
    everywhere, anywhere = set.intersection(*test.values()), set.union(*test.values())
    differ = len({frozenset(ids) for ids in training.values()}) > 1
    counts = {setting.name: len(training[id(setting.experiment)]) for setting in plan.settings} if differ else {}
    return LeftOut(tuple(sorted(anywhere)) if anywhere != everywhere else (), counts)


def feature_cost(experiment: Experiment) -> Cost:
    """The cost of an experiment's test features, from the records of the cache and the files that lie there."""
    namespace = Recipes(experiment).namespace("test")
    store = FeatureStore.open(experiment.paths.cache)
    stats = store.stats(namespace)
    hours = [_hours(record) for record in store.records(namespace)]
    known = sum(hour for hour in hours if hour is not None)
    rows, columns, channels = stats.map_shapes[0]
    return Cost((rows, columns, channels), stats.stored_bytes / known if known and None not in hours else None)


def _hours(record: CommitRecord) -> float | None:
    source = record.provenance.get("source") or {}
    frames, fps = source.get("frames"), source.get("fps")
    return frames / fps / 3600 if frames and fps else None
