"""Settings that are allowed but probably not intended; `gig config check` warns of them."""

from __future__ import annotations

from pipeline.config.experiment import Experiment
from pipeline.config.published import CHOOSING, NAME, PUBLISHED

__all__ = ["expected_warnings", "training_warnings"]


def expected_warnings(experiment: Experiment) -> list[str]:
    """One line for each name in `expected` that the configuration does not have, so that nothing is compared."""
    expected, classes = experiment.expected, experiment.dataset.classes
    lines = [
        f"expected.{split}.classes: no class {name!r} in dataset.classes; there are: {', '.join(classes)}"
        for split in ("train", "test")
        for name in getattr(expected, split).classes
        if name not in classes
    ]
    runs = dict.fromkeys(one.run for one in expected.metrics if one.run not in (None, *experiment.runs))
    return lines + [f"expected.metrics: no run {run!r}; there are: {', '.join(experiment.runs)}" for run in runs]


def training_warnings(experiment: Experiment) -> list[str]:
    """One line for each run that trains with an optimiser and learning rate that were not chosen for its method."""
    lines = []
    for name, changes in experiment.runs.items():
        run = experiment.run(name)
        training, head, other = run.training, run.head.name, experiment.head.name
        own = head == other and CHOOSING & experiment.training.model_fields_set
        if head == "pattern_norm" or own or CHOOSING & set(changes.get("training", {})):
            continue
        published = PUBLISHED.get(head)
        if published and all(getattr(training, field) == published[field] for field in ("optimizer", "learning_rate")):
            continue
        whose = f"those set for {other}" if head != other else "the defaults, which are of gig"
        advice = "choose them for it in the run's `training`"
        if published:
            rate = published["learning_rate"]
            advice = f"its authors' are {published['optimizer']}, {rate:g}: `training: {NAME}` in the run sets them"
        lines.append(
            f"runs.{name}: {head} trains with {training.optimizer}, learning rate {training.learning_rate:g}, {whose}; "
            f"{advice}"
        )
    return lines
