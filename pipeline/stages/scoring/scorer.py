"""What scores loose files, a run's head or a detector, with all that decides its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Experiment, Scoring
from pipeline.hashing import file_sha256
from pipeline.models.backbones import VideoBackbone
from pipeline.models.source_code import code_sha256
from pipeline.progress import Say
from pipeline.stages.common.device import choose_precision, pick_device
from pipeline.stages.common.digests import VERSIONS, weights_identity
from pipeline.stages.scoring.causal import check_causal
from pipeline.stages.training.saved_heads import TrainedHead, load_head
from pipeline.stages.training.validation import read_thresholds

if TYPE_CHECKING:
    from pipeline.stages.scoring.video_scores import VideoScores

__all__ = ["OpenElsewhere", "ScoreElsewhere", "ScoredElsewhere", "Scorer", "run_scorer", "settings_of"]


@dataclass(frozen=True)
class ScoredElsewhere:
    """What became of a file that another machine has scored.

    Attributes:
        name: of its table.
        scores: its scores; None with an error.
        origin: what its provenance says of the file: bytes, sha256, damage.
        error: why it could not be scored.
        said: what the user should know.
    """

    name: str
    scores: VideoScores | None
    origin: Mapping[str, Any]
    error: Exception | None
    said: tuple[str, ...]


ScoreElsewhere = Callable[[Iterable[tuple[str, Path]]], Iterator[ScoredElsewhere]]
"""Scores (name, path) of files that all machines reach, asked for when a machine has room."""
OpenElsewhere = Callable[[Sequence[Path], Say], AbstractContextManager[ScoreElsewhere]]
"""Opens that for some files; told what the user should know."""


@dataclass(frozen=True)
class Scorer:
    """What scores files.

    Attributes:
        experiment: settings of decoding and features.
        scoring: from window scores to frame scores.
        head: the trained head.
        where: its file, for messages.
        made_with: what decides the scores besides the video: section -> setting -> value.
        about: further entries of index.json.
        backbone: loads the backbone; None for that of the experiment.
        elsewhere: opens what scores on other machines, given the files and whom to tell; None for this one.
    """

    experiment: Experiment
    scoring: Scoring
    head: TrainedHead
    where: Path
    made_with: Mapping[str, Mapping[str, object]]
    about: Mapping[str, object]
    backbone: Callable[[], VideoBackbone] | None = None
    elsewhere: OpenElsewhere | None = None


def run_scorer(experiment: Experiment, run_name: str, head_folder: Path, warnings: Sequence[str] = ()) -> Scorer:
    """What scores with a run's head.

    Args:
        experiment: settings.
        run_name: one of its runs.
        head_folder: the trained head.
        warnings: about the scores as a whole, for index.json.

    Raises:
        PipelineError: scores are to be causal, and the head is not one for that; or the head cannot be read.
        WeightsError: there is no weight file.
        ConfigError: the device is not there.
    """
    path = head_folder / "head.safetensors"
    head = load_head(path)
    if experiment.run(run_name).scoring.cue == "running":
        check_causal(head.settings)
    about: dict[str, object] = {"classes": list(head.classes)}
    if thresholds := read_thresholds(head_folder, head.classes):
        about["thresholds"] = thresholds
    about |= {
        "head": {"path": str(path.resolve()), "name": head.settings.name, "run": run_name},
        "warnings": list(warnings),
    }
    made_with: dict[str, Mapping[str, object]] = {
        "head": {"sha256": file_sha256(path)},
        **_made_with(experiment, run_name),
    }
    return Scorer(experiment, experiment.run(run_name).scoring, head, path, made_with, about)


def _made_with(experiment: Experiment, run_name: str) -> dict[str, dict[str, object]]:
    """What decides the scores besides the video and the head."""
    backbone = experiment.backbone
    precision = choose_precision(backbone.precision, pick_device(experiment.machine.device))
    facts: dict[str, object] = {
        "name": backbone.name,
        "weights_sha256": weights_identity(backbone),
        "precision": precision,
    }
    if temporal := backbone.kept_temporal():
        facts["temporal"] = temporal
    if code := code_sha256(backbone):
        facts["code_sha256"] = code
    return {"backbone": facts, **settings_of(experiment, experiment.run(run_name).scoring)}


def settings_of(experiment: Experiment, scoring: Scoring) -> dict[str, dict[str, object]]:
    """The settings that decide scores besides backbone, head and video."""
    return {
        "decoding": experiment.decoding.deciding(),
        "preprocess": experiment.preprocess.model_dump(),
        "test_sampling": experiment.test_sampling.model_dump(),
        "storage": experiment.storage.model_dump(),
        "scoring": scoring.deciding(),
        "version": {"features": VERSIONS["features"], "scores": VERSIONS["scores"]},
    }
