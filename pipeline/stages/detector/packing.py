"""Packing: from a run's outputs to a detector file."""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Experiment
from pipeline.data.manifest import Manifest
from pipeline.errors import DetectorError, PipelineError
from pipeline.models.backbones.registry import backbone_tensors, can_be_packed
from pipeline.stages.common.digests import VERSIONS, weights_identity
from pipeline.stages.detector.detector import BACKBONE, Detector
from pipeline.stages.detector.document import Document
from pipeline.stages.detector.file import read_header, seal_of, write_file
from pipeline.stages.detector.probe import probe_scores
from pipeline.stages.events.operating_point import read_chosen, read_thresholds
from pipeline.stages.training.saved_heads import read_head
from pipeline.stages.training.training_set import used_videos
from pipeline.stages.training.validation import read_thresholds as read_class_thresholds

__all__ = ["RunOutputs", "check_packable", "pack_detector"]

FIGURE = ("value", "low", "high", "reason")


@dataclass(frozen=True)
class RunOutputs:
    """What a detector is made of.

    Attributes:
        name: of the detector, for people.
        experiment: settings; of a fine-tuned model with its weight file.
        run: one of its runs.
        stage: frozen or finetuned.
        precision: number format of the backbone's arithmetic, `auto` resolved.
        head: folder of the head.
        operating_point: folder of the operating point.
        evaluation: folder of the metrics; None for a detector without.
        manifest: of the videos that can be read.
        left_out: number of training videos that could not be read.
        digests: what identifies files, labels and head.
        warnings: why scores mean nothing for real videos.
    """

    name: str
    experiment: Experiment
    run: str
    stage: str
    precision: str
    head: Path
    operating_point: Path
    evaluation: Path | None
    manifest: Manifest
    left_out: int
    digests: Mapping[str, str]
    warnings: tuple[str, ...]


def check_packable(experiment: Experiment, path: Path, with_backbone: bool) -> None:
    """Raise DetectorError where the settings alone say that no detector can be packed; for arguments see
    `pack_detector`."""
    if path.suffix != ".safetensors":
        raise DetectorError(f"{path}: expected a name that ends in .safetensors")
    if experiment.features.train or experiment.features.test:
        raise DetectorError(
            f"{experiment.experiment}: a detector needs the backbone that made its head's features, and `features` "
            "names imported ones"
        )
    if not can_be_packed(experiment.backbone):
        raise DetectorError(
            f"{experiment.experiment}: a detector with the backbone {experiment.backbone.name} cannot be packed; its "
            "runs are scored with `gig score`"
        )
    if not with_backbone and experiment.backbone.weights == "random":
        raise DetectorError(f"{path}: the backbone's weights are random, no file holds them: pack them into it")


def pack_detector(outputs: RunOutputs, path: Path, *, with_backbone: bool = True) -> Detector:
    """Write a detector file and return the detector.

    Args:
        outputs: of the run.
        path: of the file, which is written whole or not at all; its name ends in .safetensors.
        with_backbone: hold the backbone's weights; otherwise their SHA-256 and name only.

    Raises:
        DetectorError: what a detector needs is not known or not there: features that were imported, a head that does
            not say how its features were made, or random weights that are not packed.
        OutputError: the file cannot be written.
    """
    experiment = outputs.experiment
    settings = experiment.backbone
    check_packable(experiment, path, with_backbone)
    facts, tensors = read_head(outputs.head / "head.safetensors")
    if not facts.get("features"):
        raise DetectorError(
            f"{outputs.head}: the head was trained by a version that did not record how its features were made; train "
            "it again"
        )
    tensors.pop("empty", None)
    if with_backbone:
        tensors |= {f"{BACKBONE}{name}": value.contiguous() for name, value in backbone_tensors(settings).items()}
    backbone: dict[str, object] = {"name": settings.name, "weights_sha256": weights_identity(settings)}
    backbone |= {"precision": outputs.precision, "packed": with_backbone}
    backbone["temporal"] = settings.kept_temporal()
    run = experiment.run(outputs.run)
    classes = tuple(facts["classes"])
    thresholds = read_class_thresholds(outputs.head, classes)
    data: dict[str, Any] = {
        "name": outputs.name,
        "code_version": importlib.metadata.version("gig-vad"),
        "experiment": experiment.experiment,
        "run": outputs.run,
        "stage": outputs.stage,
        "backbone": backbone,
        "decoding": experiment.decoding,
        "preprocess": experiment.preprocess,
        "test_sampling": experiment.test_sampling,
        "storage": experiment.storage,
        "head": facts,
        "scoring": run.scoring,
        "class_thresholds": None if thresholds is None else dict(zip(classes, thresholds, strict=True)),
        "events": experiment.events,
        "operating_point": _operating_point(outputs.operating_point),
        "trained_on": _trained_on(outputs),
        "metrics": None if outputs.evaluation is None else _metrics(outputs.evaluation),
        "warnings": outputs.warnings,
        "numbers": {name: VERSIONS[name] for name in ("features", "scores")},
    }
    document = Document.parse(data, path)
    # Without its backbone in the file, a detector finds it here all the same.
    weights = Path(experiment.backbone.weights) if Path(experiment.backbone.weights).is_file() else None
    probe = probe_scores(Detector(document, tensors, "", path, weights, experiment.machine))
    document = document.model_copy(update={"probe": probe})
    plain = document.model_dump(mode="json")
    seal = write_file(path, plain, tensors)
    assert seal == seal_of(read_header(path).document, tensors)
    return Detector(document, tensors, seal, path, weights, experiment.machine)


def _operating_point(folder: Path) -> dict[str, Any]:
    thresholds, document = read_thresholds(folder)
    facts = {key: document[key] for key in ("normal_videos", "normal_hours", "notes")}
    return {"thresholds": thresholds, "chosen": tuple(read_chosen(folder)), **facts}


def _trained_on(outputs: RunOutputs) -> dict[str, Any]:
    dataset, run = outputs.experiment.dataset, outputs.experiment.run(outputs.run)
    train = used_videos(run, outputs.manifest.split("train"))
    labels = Counter(label for video in train for label in (video.known_labels or ("Normal",)))
    settings = {"training": run.training.model_dump(), "selection": run.selection.model_dump()}
    if outputs.stage == "finetuned":
        settings["finetune"] = outputs.experiment.finetune.model_dump()
    return {
        "dataset": dataset.name,
        "adapter": dataset.adapter,
        "training_videos": len(train),
        "videos": dict(sorted(labels.items())),
        "left_out": outputs.left_out,
        "digests": dict(outputs.digests),
        "settings": settings,
    }


def _metrics(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        facts = {key: found[key] for key in ("videos", "anomalous_videos", "frames")}
        events = found["events"].get("anomaly", {}).get("metrics", {})
        return {
            **facts,
            "level": found["bootstrap"]["level"],
            "figures": {name: _figure(value) for name, value in found["figures"].items()},
            "events": {name: _figure(value) for name, value in events.items()},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(f"{path}: not the metrics of a run ({error!r})") from error


def _figure(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value[key] for key in FIGURE if key in value}
