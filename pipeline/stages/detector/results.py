"""What a detector gives for one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.data.events import Event
from pipeline.stages.extraction.outcomes import Outcome
from pipeline.stages.scoring.video_scores import VideoScores

__all__ = ["ScoredFile", "ScoredOutcome"]


@dataclass(frozen=True)
class ScoredFile:
    """Scores and events of one video of N frames, for C classes.

    Attributes:
        video_id: name of the file.
        classes: C names, the columns of `scores`.
        scores: (N, C) float32 in [0, 1].
        anomaly: (N,) float32 in [0, 1], how anomalous a frame is, whatever its class.
        times_s: (N,) float64, presentation times in seconds from the first frame.
        events: by the detector's rules, of every class and of anomaly in general, ordered by first frame.
        damage: what was lost of a damaged file, in words; None for a whole one.
    """

    video_id: str
    classes: tuple[str, ...]
    scores: np.ndarray
    anomaly: np.ndarray
    times_s: np.ndarray
    events: tuple[Event, ...]
    damage: str | None = None


@dataclass(frozen=True)
class ScoredOutcome:
    """What became of one file.

    Attributes:
        outcome: of its extraction.
        scores: None where it could not be read.
        origin: what is known of the file: bytes, sha256, damage; nothing where it could not be read.
    """

    outcome: Outcome
    scores: VideoScores | None
    origin: Mapping[str, Any]
