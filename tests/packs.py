"""A detector of a head that has learnt nothing, packed from the outputs that a run would have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.config import Experiment
from pipeline.config.heads import parse_head
from pipeline.config.runs import Training
from pipeline.data.manifest import Manifest, VideoEntry
from pipeline.models.backbones import backbone_facts
from pipeline.models.reduction import Standardizer
from pipeline.models.weights import weights_sha256
from pipeline.stages.common.feature_recipe import FeatureRecipe
from pipeline.stages.common.picture import map_size
from pipeline.stages.detector.packing import RunOutputs
from pipeline.stages.events.operating_point import configured, write_operating_point
from pipeline.stages.training.saved_heads import make_head, save_head

CLASSES = ("Explosion", "Fighting", "Accident")


def outputs_of(
    experiment: Experiment, folder: Path, seed: int = 0, head_settings: dict[str, Any] | None = None
) -> RunOutputs:
    """Outputs of the run `gig`, one of whose thresholds was chosen on validation videos."""
    folder.mkdir(parents=True)
    settings = parse_head(head_settings or {"name": "gig"})
    weights, channels = experiment.backbone.weights, backbone_facts(experiment.backbone).channels
    recipe = FeatureRecipe(
        backbone=experiment.backbone.name,
        weights_sha256="random-0" if weights == "random" else weights_sha256(weights, experiment.backbone.name),
        precision="float32",
        preprocess=experiment.preprocess.model_dump(),
        sampling=experiment.train_sampling.model_dump(),
        dtype="float16",
        map_shape=(*map_size(experiment), channels),
        temporal=experiment.backbone.kept_temporal(),
    )
    head = make_head(settings, Training(seed=seed), channels, len(CLASSES))
    standardizer = Standardizer(torch.full((channels,), 0.1), torch.full((channels,), 0.3), settings.standardize_offset)
    kept = standardizer if settings.standardize else None
    save_head(folder / "head.safetensors", head, settings, kept, CLASSES, recipe)
    point = configured(experiment.events, CLASSES, "none was asked for")
    point.choices["anomaly"] = replace(point.choices["anomaly"], threshold=0.25, chosen_on="validation")
    write_operating_point(folder, point, {})
    videos = [("n", ()), ("m", ("Fighting", "Accident"))]
    entries = tuple(
        VideoEntry(name, f"{name}.mp4", "train", labels, None, 96, 64, 10.0, 9, 1) for name, labels in videos
    )
    figures = {
        "frame_auc": {"value": 0.75, "low": 0.5, "high": 0.9, "resamples": 9},
        "video_auc": {"value": None, "reason": "too few"},
    }
    metrics = {"videos": 4, "anomalous_videos": 3, "frames": 100, "figures": figures, "events": {"reason": "none"}}
    (folder / "metrics.json").write_text(json.dumps(metrics | {"bootstrap": {"level": 0.95}}))
    return RunOutputs(
        name="night",
        experiment=experiment,
        run="gig",
        stage="frozen",
        precision="float32",
        head=folder,
        operating_point=folder,
        evaluation=folder,
        manifest=Manifest(folder, CLASSES, entries, ()),
        left_out=1,
        digests={"files": "0a1b2c3d"},
        warnings=("It has learnt nothing.",),
    )
