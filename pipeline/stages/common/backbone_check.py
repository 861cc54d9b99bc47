"""Whether an experiment's backbone takes its clips and pictures, before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pipeline.config import Experiment
from pipeline.errors import ConfigError
from pipeline.models.backbones import backbone_facts
from pipeline.stages.common.picture import picture_size

__all__ = ["check_backbone"]


def check_backbone(experiment: Experiment) -> None:
    """Compare the settings with the facts of the backbone; its weights are not read.

    Raises:
        ConfigError: with every setting that does not fit, or because there is no such backbone.
    """
    facts = backbone_facts(experiment.backbone)
    imported = experiment.features
    checks: list[tuple[str, Callable[[], object]]] = [
        ("preprocess", partial(facts.map_size, *picture_size(experiment))),
    ]
    if imported.train is None:
        checks.append(("train_sampling.clip_frames", partial(facts.check_clip, experiment.train_sampling.clip_frames)))
    if imported.test is None:
        checks.append(
            ("test_sampling.window_frames", partial(facts.check_clip, experiment.test_sampling.window_frames))
        )
    problems = []
    for setting, check in checks:
        try:
            check()
        except ConfigError as error:
            problems.append(f"{setting}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
