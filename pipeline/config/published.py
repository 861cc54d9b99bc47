"""How the authors of each method trained it: the meaning of `training: paper` in a run.

For `gig` it is what the paper says, for the others what their authors' released code does (see the docstrings of
`pipeline.models.heads`). The authors chose a checkpoint by test metrics; here it is the last, or that of `selection`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["CHOOSING", "NAME", "PUBLISHED", "presets_spelled_out", "published_training"]

PRESET = "preset"
NAME = "paper"
CHOOSING = {PRESET, "optimizer", "learning_rate"}
KEPT = ("seed", "permute_labels_seed")  # these do not belong to a method

PUBLISHED: dict[str, dict[str, Any]] = {
    "gig": {"optimizer": "adagrad", "learning_rate": 1e-3, "batch_bags": 8, "epochs": 100},
    "mil_ranking": {
        "optimizer": "adagrad",
        "learning_rate": 0.01,
        "weight_decay": 0.002,
        "batch_bags": 60,
        "steps": 20_000,
    },
    "rtfm": {"optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 5e-3, "batch_bags": 64, "steps": 15_000},
    "mgfn": {"optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 5e-4, "batch_bags": 32, "epochs": 1_000},
    "bn_wvad": {
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 5e-5,
        "clip_norm": 1.0,
        "batch_bags": 128,
        "steps": 1_000,
    },
    "ur_dmu": {"optimizer": "adam", "learning_rate": 1e-4, "weight_decay": 5e-5, "batch_bags": 128, "steps": 3_000},
    "pel4vad": {
        "optimizer": "adam",
        "learning_rate": 5e-4,
        "batch_bags": 128,
        "epochs": 50,
        "schedule": "cosine_by_epoch",
        "schedule_epochs": 60,
    },
    "prodisc_vad": {"optimizer": "adam", "learning_rate": 5e-4, "weight_decay": 5e-4, "batch_bags": 60, "epochs": 100},
}


def presets_spelled_out(changes: Any) -> Any:
    """A run's sections with `training: paper` written as `training: {preset: paper}`, which can have other fields."""
    if isinstance(changes, dict) and isinstance(changes.get("training"), str):
        return changes | {"training": {PRESET: changes["training"]}}
    return changes


def published_training(head: str, base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A run's training section: that of the experiment, or with `preset` the published one, with the run's changes.

    Args:
        head: name of the run's head.
        base: the experiment's section; with a preset only its seeds are used.
        changes: those of the run.

    Raises:
        ValueError: a preset other than `paper`, or a head without a published training.
    """
    if PRESET not in changes:
        return base | changes
    if changes[PRESET] != NAME:
        raise ValueError(f"training.{PRESET}: there is only {NAME!r}, got {changes[PRESET]!r}")
    if head not in PUBLISHED:
        raise ValueError(
            f"training: {NAME}: no training of {head} is known that would apply here; "
            f"there is one of {', '.join(PUBLISHED)}"
        )
    rest = {name: value for name, value in changes.items() if name != PRESET}
    return {name: base[name] for name in KEPT} | PUBLISHED[head] | rest
