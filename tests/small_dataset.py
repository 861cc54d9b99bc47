"""Five small videos of two classes, as a manifest, and their extraction."""

from __future__ import annotations

from pipeline.data.manifest import VideoEntry
from pipeline.stages.common.quarantine import Quarantine
from pipeline.stages.extraction.extract import extract_split


def entry(video_id: str, split: str, *labels: str, packets: int = 20) -> VideoEntry:
    return VideoEntry(video_id, f"{video_id}.mp4", split, labels, None, 96, 64, 10.0, packets, 1)


def extract(experiment, manifest, split, videos, namespace, **options):
    quarantine = Quarantine(experiment.paths.output / "quarantine")
    return extract_split(experiment, manifest, split, videos, namespace, quarantine, **options)
