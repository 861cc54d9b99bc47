"""What the commit record says about the origin of a video's features: enough to make them again."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from pipeline.config import Experiment
from pipeline.data.decoding.damage import Damage
from pipeline.data.decoding.decode import VideoHeader, content_sha256
from pipeline.data.decoding.messages import Source
from pipeline.models.source_code import code_sha256
from pipeline.remote import AnyPath, RemotePath
from pipeline.stages.extraction.engine import Engine

__all__ = ["lost_frames", "provenance"]

PACKAGES = ("torch", "mmaction2", "av", "numpy")


def provenance(
    experiment: Experiment,
    engine: Engine,
    precision: str,
    split: str,
    *,
    path: AnyPath,
    header: VideoHeader,
    frames: int,
    damage: Damage,
    source: Source | None = None,
) -> dict[str, object]:
    """The facts, as plain data for JSON.

    Args:
        experiment: settings.
        engine: the backbone that made the features.
        precision: number format in which it computed.
        split: `train` or `test`.
        path: the video file or folder of images; its content is read for the digest.
        header: what the file says about itself.
        frames: number of frames, lost ones included.
        damage: what was skipped while it was decoded.
        source: what the decoder read, of a video of a storage.

    Raises:
        OSError: the video cannot be read any more.
    """
    sampling = experiment.train_sampling if split == "train" else experiment.test_sampling
    temporal, code = experiment.backbone.kept_temporal(), code_sha256(experiment.backbone)
    return {
        "source": {
            "path": path.name,
            "bytes": header.bytes,
            **_identity(path, source),
            "packets": header.packets,
            "declared_frames": header.declared,
            "frames": frames,
            "decoded_frames": frames - damage.lost_frames,
            "fault": header.fault,
            "damage": asdict(damage) if damage else None,
            "fps": header.fps,
            "width": header.width,
            "height": header.height,
        },
        "backbone": {
            "name": engine.network.name,
            "weights": experiment.backbone.weights,
            "weights_sha256": engine.network.weights_sha256,
            "precision": precision,
            "compiled": engine.compiled,
            "batch_clips": engine.batch_clips,
            "batch_frames": engine.batch_frames,
            **({"temporal": temporal} if temporal else {}),
            **({"code_sha256": code} if code else {}),
        },
        "decoding": experiment.decoding.model_dump(),
        "preprocess": experiment.preprocess.model_dump(),
        "sampling": sampling.model_dump(),
        "split": split,
        "device": engine.device.type,
        "versions": _versions(experiment.backbone.family),
    }


def _identity(path: AnyPath, source: Source | None) -> dict[str, object]:
    """By what it is known whether a video is still the same one, see `is_current`."""
    if source:
        return {"version": source.version, "sha256": source.sha256}
    if isinstance(path, RemotePath):
        return {"version": path.version(), "sha256": content_sha256(path)}
    return {"mtime_ns": path.stat().st_mtime_ns, "sha256": content_sha256(path)}


def lost_frames(provenance: Mapping[str, Any]) -> list[list[int]]:
    """The frames that were lost, as ranges [first, one after the last).

    Args:
        provenance: from a commit record; that of imported features has none.
    """
    damage = provenance.get("source", {}).get("damage") or {}
    lost: list[list[int]] = damage.get("lost", [])
    return lost


@cache
def _versions(family: str) -> dict[str, str]:
    packages = (*PACKAGES, "timm") if family == "timm" else PACKAGES
    return {name: importlib.metadata.version(name) for name in packages}
