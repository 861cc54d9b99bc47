"""Features without a record, as published: what their rows stand for, and how they become a video of this cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import InvalidImport

__all__ = ["Incoming", "PlainLayout", "from_plain"]


@dataclass(frozen=True)
class PlainLayout:
    """What the rows of arrays that carry no record stand for.

    Row i of an array is the clip of frames i * frames_per_clip to (i + 1) * frames_per_clip - 1; what a video has beyond the
    last clip is not in its features, so it counts as having as many frames as its clips.

    Attributes:
        fps: frames a second of the videos.
        frames_per_clip: frames of a clip; 16 in the published I3D and C3D features.
        segments: average the clips to so many segments of equal length, as public code does for training; None keeps all.
        dtype: float16 or float32; None keeps that of the arrays.
        suffix: end of the arrays' names that is not part of the video id, such as `_i3d`.
    """

    fps: float
    frames_per_clip: int = 16
    segments: int | None = None
    dtype: str | None = None
    suffix: str = ""

    def __post_init__(self) -> None:
        for name in ("fps", "frames_per_clip", "segments"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidImport(f"{name}: expected a positive number, got {value}")


@dataclass(frozen=True)
class Incoming:
    """A video on its way into the cache.

    Attributes:
        video_id: its id.
        features: (V, T, H, W, D), anything that can be sliced.
        frames: (V, T, L) int64.
        times: (N,) float64 seconds.
        dtype: to store the features as.
        provenance: of its commit record.
        features_crc32c: of every view, where it is known.
    """

    video_id: str
    features: Any
    frames: np.ndarray
    times: np.ndarray
    dtype: str
    provenance: Mapping[str, Any]
    features_crc32c: tuple[str, ...] = ()


def from_plain(video_id: str, array: Any, path: Path, layout: PlainLayout) -> Incoming:
    """A video of a plain array.

    Args:
        video_id: its id.
        array: (T, D), or (T, crops, D): every crop becomes a view, in that order; or (V, T, H, W, D).
        path: where it was found.
        layout: what its rows stand for.

    Raises InvalidImport for another rank, an empty axis, or a type that is neither float16 nor float32 where none is asked for.
    """
    what = f"{path}: {video_id}"
    dtype = layout.dtype or str(array.dtype)
    if dtype not in ("float16", "float32"):
        raise InvalidImport(f"{what}: expected float16 or float32, or a dtype to convert to, got {array.dtype}")
    if array.ndim not in (2, 3, 5) or 0 in array.shape:
        raise InvalidImport(f"{what}: expected an array (T, D), (T, crops, D) or (V, T, H, W, D), got {tuple(array.shape)}")
    maps = np.asarray(array)
    if maps.ndim < 5:
        crops = maps.reshape(len(maps), -1, maps.shape[-1])
        maps = crops.transpose(1, 0, 2)[:, :, None, None]
    views, clips = maps.shape[:2]
    bounds = np.stack([np.arange(clips), np.arange(clips) + 1], axis=1)
    if layout.segments:
        bounds = segment_bounds(clips, layout.segments)
        maps = np.stack([maps[:, start:end].mean(axis=1, dtype=np.float32) for start, end in bounds], axis=1)
    length = layout.frames_per_clip
    spans = [np.linspace(start * length, end * length - 1, length).round() for start, end in bounds]
    frames = np.broadcast_to(np.array(spans, dtype=np.int64), (views, len(bounds), length))
    decoded = clips * length
    provenance = {
        "source": {"path": path.name, "bytes": path.stat().st_size, "decoded_frames": decoded, "fps": layout.fps},
        "imported": {"file": path.name, "shape": list(array.shape), "dtype": str(array.dtype), "segments": layout.segments},
    }
    return Incoming(video_id, maps, frames, np.arange(decoded) / layout.fps, dtype, provenance)


def segment_bounds(clips: int, segments: int) -> np.ndarray:
    """(S, 2) first clip and end of every segment, cut as in the field's public code; with few clips some serve twice."""
    edges = np.linspace(0, clips, segments + 1).astype(np.int64)
    return np.stack([edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)], axis=1)
