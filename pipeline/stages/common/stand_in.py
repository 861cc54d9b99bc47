"""Models that only try the pipeline out: their scores of a real video look like any others and mean nothing."""

from __future__ import annotations

from pipeline.config import GeneratedDataset
from pipeline.config.backbone_names import STAND_INS
from pipeline.stages.common.recipes import FinetunedRecipes, Recipes

__all__ = ["stand_in_reasons"]


def stand_in_reasons(recipes: Recipes) -> list[str]:
    """Why a configuration's model has learnt nothing about real videos, one sentence each; empty if it may have."""
    if isinstance(recipes, FinetunedRecipes):  # its weights are a file; the frozen stage says what they were made from
        return stand_in_reasons(recipes.frozen)
    backbone, dataset = recipes.experiment.backbone, recipes.experiment.dataset
    features = recipes.experiment.features
    used = not (features.train and features.test)  # the backbone has no part in imported features
    reasons = []
    if used and backbone.weights == "random":
        reasons.append(f"The weights of the backbone {backbone.name} are random: it has learnt nothing.")
    elif used and backbone.name in STAND_INS:
        reasons.append(f"The backbone {backbone.name} is a small stand-in, trained on generated moving shapes.")
    if isinstance(dataset, GeneratedDataset):
        reasons.append(
            f"The data set {dataset.name}, which heads of this configuration are trained on, is of generated scenes."
        )
    return reasons
