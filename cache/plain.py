"""Published features, which have no record: what their rows stand for, and how they become a video of this cache."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cache.arrays import LazyArray
from cache.errors import InvalidImport

__all__ = [
    "CLIP_AXIS",
    "Incoming",
    "PlainLayout",
    "PlainVideo",
    "from_plain",
    "length_problem",
    "provenance_of",
    "segment_bounds",
]

CLIP_AXIS = {"T,D": 0, "crop:T,D": 0, "T,crops,D": 0, "crops,T,D": 1, "videos,T,D": 1, "V,T,H,W,D": 1}
"""The forms of arrays, and which of their axes counts the clips. `crop:T,D` means one array per crop, `videos,T,D` many
videos in one array."""


@dataclass(frozen=True)
class PlainLayout:
    """What arrays without a record hold.

    Row i of an array is the clip of frames i * frames_per_clip to (i + 1) * frames_per_clip - 1. Frames after the last
    clip are not in the features, so a video counts as having as many frames as its clips. If the video's number of
    frames is known, a last clip that was padded ends with the video.

    Attributes:
        fps: frames per second of the videos; None if `video_fps` has them for every video.
        frames_per_clip: frames of a clip; 16 in the published I3D and C3D features.
        segments: average the clips to this many segments of equal length, as public code does for training; None keeps
            all clips.
        dtype: float16 or float32; None keeps that of the arrays.
        suffix: end of the arrays' names that is not part of the video id, such as `_i3d`.
        axes: one of CLIP_AXIS; None to find them by names, shapes and frame counts.
        equal_parts: the rows are equal parts of the video, of whatever length, instead of clips; needs `frame_counts`.
        order: ids of the videos in an array `videos,T,D`.
        frame_counts: frames of the videos by id, 0 for a video whose number is not known; None if none are known.
            Videos that are not in it are refused.
        videos: ids of the videos to import, such as those of a split; None for all. Arrays of others that are in
            `frame_counts` are left aside.
        video_fps: frames per second by id, where they differ.

    Raises:
        InvalidImport: a value out of range, or `equal_parts` without `frame_counts`.
    """

    fps: float | None = None
    frames_per_clip: int = 16
    segments: int | None = None
    dtype: str | None = None
    suffix: str = ""
    axes: str | None = None
    equal_parts: bool = False
    order: Sequence[str] = ()
    frame_counts: Mapping[str, int] | None = None
    videos: Collection[str] | None = None
    video_fps: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name in ("fps", "frames_per_clip", "segments"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidImport(f"{name}: expected a positive number, got {value}")
        if self.axes is not None and self.axes not in CLIP_AXIS:
            raise InvalidImport(f"layout: expected one of {', '.join(CLIP_AXIS)}, got {self.axes!r}")
        if self.equal_parts and self.frame_counts is None:
            raise InvalidImport("equal parts of a video: the frame counts of the videos are needed")

    def fps_of(self, video_id: str) -> float:
        """Frames per second of a video. Raises InvalidImport if they are not known."""
        fps = self.fps or (self.video_fps or {}).get(video_id)
        if not fps:
            raise InvalidImport(f"{video_id}: the frames a second are not known: say them (fps)")
        return fps


@dataclass(frozen=True)
class PlainVideo:
    """A video in plain arrays.

    Attributes:
        video_id: its id.
        arrays: its array, or one per crop.
        number: its index in an array of many videos; None if the array is its own.
    """

    video_id: str
    arrays: tuple[LazyArray, ...]
    number: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the part of one array that belongs to it."""
        shape = self.arrays[0].shape
        return shape if self.number is None else (1, *shape[1:])


@dataclass(frozen=True)
class Incoming:
    """A video on its way into the cache.

    Attributes:
        video_id: its id.
        features: (V, T, H, W, D), anything that can be sliced.
        frames: (V, T, L) int64.
        times: (N,) float64 seconds.
        dtype: as which the features are stored.
        provenance: for its commit record.
        features_crc32c: expected CRC-32C of every view; empty if not known.
    """

    video_id: str
    features: Any
    frames: np.ndarray
    times: np.ndarray
    dtype: str
    provenance: Mapping[str, Any]
    features_crc32c: tuple[str, ...] = ()


def length_problem(clips: int, frames_per_clip: int, frames: int) -> str | None:
    """What is wrong with a number of clips for a number of frames; None if it can be that of whole or padded clips.

    Less than a clip may be too much, where the last clip was padded. Up to a whole clip may be missing: some published
    extractions drop the last frame of a video first, so that one of 32 frames has a single clip of 16.
    """
    covered = clips * frames_per_clip
    if -frames_per_clip <= covered - frames < frames_per_clip:
        return None
    return f"{clips} clips of {frames_per_clip} frames stand for {covered} frames, the video has {frames}"


def provenance_of(video: PlainVideo, axes: str, layout: PlainLayout) -> dict[str, Any]:
    """The provenance in the record of a plain video; it changes exactly when its files or the layout change."""
    facts = [array.path.stat() for array in video.arrays]
    clips, first = video.shape[CLIP_AXIS[axes]], video.arrays[0]
    frames = clips * layout.frames_per_clip
    known = (layout.frame_counts or {}).get(video.video_id) or None
    if known is not None:
        frames = known if layout.equal_parts else min(known, frames)
    return {
        "source": {
            "path": first.path.name,
            "bytes": facts[0].st_size,
            "mtime_ns": facts[0].st_mtime_ns,
            "decoded_frames": frames,
            "fps": layout.fps_of(video.video_id),
        },
        "imported": {
            "files": [
                [array.path.name, array.name, fact.st_size, fact.st_mtime_ns]
                for array, fact in zip(video.arrays, facts, strict=True)
            ],
            "number": video.number,
            "layout": axes,
            "shape": list(video.shape),
            "dtype": str(first.dtype),
            "stored_as": layout.dtype,
            "clips": clips,
            "frames_per_clip": layout.frames_per_clip,
            "equal_parts": layout.equal_parts,
            "video_frames": known,
            "segments": layout.segments,
        },
    }


def from_plain(video: PlainVideo, axes: str, layout: PlainLayout) -> Incoming:
    """Read a video from plain arrays; each crop becomes a view, in order.

    Args:
        video: the video.
        axes: the form of its arrays, one of CLIP_AXIS.
        layout: what the rows stand for.

    Raises:
        InvalidImport: the arrays are neither float16 nor float32 and the layout has no `dtype`.
    """
    first = video.arrays[0]
    dtype = layout.dtype or str(first.dtype)
    if dtype not in ("float16", "float32"):
        raise InvalidImport(
            f"{first.path}: {video.video_id}: expected float16 or float32, or a dtype to convert to, got {first.dtype}"
        )
    provenance = provenance_of(video, axes, layout)
    maps = _maps(video, axes)
    views, clips = maps.shape[:2]
    frames = provenance["source"]["decoded_frames"]
    starts, ends = _row_frames(clips, frames, layout)
    if layout.segments:
        bounds = segment_bounds(clips, layout.segments)
        maps = np.stack([maps[:, start:end].mean(axis=1, dtype=np.float32) for start, end in bounds], axis=1)
        starts, ends = starts[bounds[:, 0]], ends[bounds[:, 1] - 1]
    spans = np.linspace(starts, ends - 1, layout.frames_per_clip, axis=1).round().astype(np.int64)
    used = np.broadcast_to(spans, (views, *spans.shape))
    return Incoming(video.video_id, maps, used, np.arange(frames) / layout.fps_of(video.video_id), dtype, provenance)


def segment_bounds(clips: int, segments: int) -> np.ndarray:
    """First clip and end of every segment, (S, 2) int64, as in the field's public code.

    With fewer clips than segments some clips are in several segments.
    """
    edges = np.linspace(0, clips, segments + 1).astype(np.int64)
    return np.stack([edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)], axis=1)


def _maps(video: PlainVideo, axes: str) -> np.ndarray:
    """(V, T, H, W, D)."""
    if axes == "videos,T,D":
        return np.asarray(video.arrays[0].load()[video.number])[None, :, None, None]
    arrays = [np.asarray(array.load()) for array in video.arrays]
    if axes == "V,T,H,W,D":
        return arrays[0]
    crops = arrays[0] if axes in ("T,crops,D", "crops,T,D") else np.stack(arrays)
    return (crops.transpose(1, 0, 2) if axes == "T,crops,D" else crops)[:, :, None, None]


def _row_frames(clips: int, frames: int, layout: PlainLayout) -> tuple[np.ndarray, np.ndarray]:
    """First frame and end (exclusive) of every row, (T,) int64 each."""
    rows = np.arange(clips, dtype=np.int64)
    if layout.equal_parts:
        starts = np.minimum(rows * frames // clips, frames - 1)
        return starts, np.minimum(np.maximum(starts + 1, (rows + 1) * frames // clips), frames)
    return rows * layout.frames_per_clip, np.minimum((rows + 1) * layout.frames_per_clip, frames)
