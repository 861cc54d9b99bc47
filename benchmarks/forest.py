"""What can be told from properties of video files alone: a forest on width, height, frame rate and bytes.

Clips collected from the web differ in format by class. A metric on them means something only above that of a forest
that has seen no picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.data.manifest import VideoEntry

__all__ = ["anomalous", "folds_by_source", "forest_scores"]


def anomalous(entries: Sequence[VideoEntry]) -> np.ndarray:
    """Whether each video has an anomaly, (V,) bool."""
    return np.array([bool(entry.known_labels) for entry in entries])


def forest_scores(fitting: Sequence[VideoEntry], unseen: Sequence[VideoEntry], seed: int) -> np.ndarray:
    """How anomalous a forest fitted on the files of some videos finds those of others, (V,)."""
    forest = RandomForestClassifier(300, random_state=seed)
    return forest.fit(_properties(fitting), anomalous(fitting)).predict_proba(_properties(unseen))[:, 1]


def folds_by_source(entries: Sequence[VideoEntry], folds: int, seed: int) -> list[np.ndarray]:
    """Indices of the videos that each fold holds out; videos of one source are in one fold."""
    sources = np.array([entry.source or entry.video_id for entry in entries])
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [held_out for _, held_out in splitter.split(sources, anomalous(entries), sources)]


def _properties(entries: Sequence[VideoEntry]) -> np.ndarray:
    return np.array([[entry.width, entry.height, entry.fps, entry.bytes] for entry in entries])
