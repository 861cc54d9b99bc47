# SPDX-License-Identifier: Apache-2.0
# Part of gig-vad, which copies this file into every folder that `gig detector export --onnx` makes.
"""Scores videos with an exported detector: onnxruntime and numpy, and PyAV where pictures are resized or videos read.

    python gig_onnx.py camera7.mp4 > camera7.csv

    from gig_onnx import ExportedDetector

    detector = ExportedDetector("night-onnx")
    scores = detector.score_video("camera7.mp4")
    scores = detector.score(detector.prepare(frame) for frame in frames)  # frames (H, W, 3) uint8 RGB

Four graphs do the work: `frames` looks at single pictures, `clips` at the windows of a video, `reduce` and `head` at
the maps of windows and the cue, which is their maximum so far or over the whole video; some heads also take their
minimum at each cell, the background. What comes before and after is below: the windows, the rounding of maps,
smoothing, and the mean over the windows that cover a frame.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnxruntime as ort

__all__ = ["FORMATS", "ExportedDetector", "Scores"]

FORMATS = (1, 2)
"""Version of the form of the folder."""

GRAPHS = ("frames", "clips", "reduce", "head")
PICTURES_AT_ONCE, CLIPS_AT_ONCE, WINDOWS_AT_ONCE = 24, 8, 32
REACH_SIGMAS = 4


@dataclass(frozen=True)
class Scores:
    """Scores of one video of N frames and W windows, for C classes.

    Attributes:
        classes: C names.
        frames: (N, C) float32 in [0, 1].
        anomaly: (N,) float32 in [0, 1], how anomalous a frame is, whatever its class.
        windows: (W, 1 + C) float32 in [0, 1], as the head gave them; column 0 is Normal.
        spans: (W, 2) int64, first and last frame of a window.
        times_s: (N,) float64, seconds from the first frame; None where only pictures were given.
    """

    classes: tuple[str, ...]
    frames: np.ndarray
    anomaly: np.ndarray
    windows: np.ndarray
    spans: np.ndarray
    times_s: np.ndarray | None = None


class ExportedDetector:
    """A detector from its exported folder.

    Args:
        folder: where detector.json and the graphs lie.
        threads: of onnxruntime; 0 for one per core.

    Attributes:
        facts: the content of detector.json; `document` in it is that of the detector file.
        classes: the anomaly classes, one column of the scores each.
        seal: SHA-256 of the detector that was exported, 64 hex digits.
        height, width: pixels of the pictures that `score` takes.

    Raises:
        ValueError: detector.json is missing or of a newer form, or a graph is not the one that was exported.
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        folder = Path(folder)
        self.facts = _read_facts(folder / "detector.json")
        document = self.facts["document"]
        self.seal: str = self.facts["seal"]
        self.classes: tuple[str, ...] = tuple(document["head"]["classes"])
        picture = document["preprocess"]
        self._fit: str = picture.get("fit", "crop")
        self.height: int = picture.get("height") or picture["crop"]
        self.width: int = picture.get("width") or picture["crop"]
        self._short_side: int = picture["short_side"]
        self._padding: list[int] = self.facts.get("padding", [0, 0, 0])
        self._scoring: dict[str, Any] = document["scoring"]
        self._dtype = np.dtype(document["storage"]["dtype"])
        self._context: int | None = self.facts["head"]["context"]
        sampling = document["test_sampling"]
        self._steps = np.arange(sampling["window_frames"], dtype=np.int64) * sampling["interval_frames"]
        self._stride: int = sampling["stride_frames"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._graphs = {name: _load(folder / f"{name}.onnx", self.facts["files"], options) for name in GRAPHS}

    def score(self, pictures: Iterable[np.ndarray], size: Callable[[], tuple[int, int]] | None = None) -> Scores:
        """Score a video whose pictures are given.

        Maps are held in a temporary file and pictures only as long as they are needed, so memory is bounded.

        Args:
            pictures: N of (height, width, 3) uint8 RGB in order, as `prepare` makes them; an array of them, or anything
                that gives one after the other.
            size: gives width and height of the first frame, upright, before it was prepared; called once there is a
                picture. A detector whose pictures are letterboxes needs it, since it leaves the padding out.

        Raises:
            ValueError: there is none, or one has another shape or type; the size of letterboxes is missing.
        """
        if self._fit == "letterbox" and size is None:
            raise ValueError("expected the size of the frames, because this detector leaves out a letterbox's padding")
        with tempfile.TemporaryFile(prefix="gig-maps-") as stream:
            spans, frames, shape = self._write_maps(pictures, stream, size)
            stream.flush()
            maps = np.memmap(stream, dtype=self._dtype, mode="r", shape=(len(spans), *shape))
            windows = self._window_scores(maps)
            del maps
        return self._by_frame(windows, spans, frames)

    def score_video(self, path: str | Path) -> Scores:
        """Score a video file; needs PyAV. Frames are read and resized as `read_video` says."""
        times: list[float] = []
        sizes: list[tuple[int, int]] = []

        def pictures() -> Iterator[np.ndarray]:
            for picture, time_s in self._read(path, sizes):
                times.append(time_s)
                yield picture

        return replace(self.score(pictures(), lambda: sizes[0]), times_s=np.array(times))

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """A frame (h, w, 3) uint8 RGB as a picture (height, width, 3) for `score`, by libswscale; needs PyAV.

        All frames of a video must have one size.
        """
        import av

        source = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        return self._fitted(source, (0, False, False), (source.width, source.height))

    def read_video(self, path: str | Path) -> Iterator[tuple[np.ndarray, float]]:
        """Pictures (height, width, 3) of a video file and times in seconds from its first frame; needs PyAV.

        Every frame that FFmpeg shows is used, upright as the first one says. The file must be whole: damage is an
        error of PyAV or, where FFmpeg goes on, changes frames. gig-vad itself also repairs times and counts damage.
        """
        return self._read(path, [])

    def _read(self, path: str | Path, sizes: list[tuple[int, int]]) -> Iterator[tuple[np.ndarray, float]]:
        """As `read_video`; the width and height of the first frame, upright, are added to `sizes`."""
        import av

        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream):
                raise ValueError(f"{path}: expected a video stream, there is none")
            stream.thread_type = "AUTO"
            turn: tuple[int, bool, bool] | None = None
            first_s: float | None = None
            for number, frame in enumerate(container.decode(stream)):
                turn = turn or _turn(frame)
                time_s = number / float(stream.average_rate or 25) if frame.time is None else frame.time
                first_s = time_s if first_s is None else first_s
                if not sizes:
                    sizes.append(_upright_size(frame, turn[0]))
                yield self._fitted(frame, turn, sizes[0]), time_s - first_s

    def _fitted(self, frame: Any, turn: tuple[int, bool, bool], first: tuple[int, int]) -> np.ndarray:
        """What the backbone sees of a frame: resized to RGB by one step of libswscale (bilinear), and turned upright.

        A crop cuts out the middle, a stretch takes all, and a letterbox lays all in the middle of the padding; frames
        of another shape than the first are padded within its place.
        """
        size = _upright_size(frame, turn[0])
        if self._fit == "crop":
            factor = self._short_side / min(size)
            width, height = (int(side * factor + 0.5) for side in size)
            image = _upright(frame, width, height, turn)
            top, left = (height - self.height) // 2, (width - self.width) // 2
            return np.ascontiguousarray(image[top : top + self.height, left : left + self.width])
        if self._fit == "stretch":
            return np.ascontiguousarray(_upright(frame, self.width, self.height, turn))
        width, height = self._place(*first)
        if size != first:
            width, height = _inside(*size, width, height)
        picture = np.empty((self.height, self.width, 3), np.uint8)
        picture[:] = self._padding
        top, left = (self.height - height) // 2, (self.width - width) // 2
        picture[top : top + height, left : left + width] = _upright(frame, width, height, turn)
        return picture

    def _place(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of a letterbox's picture of a source, without the padding."""
        return _inside(width, height, self.width, self.height)

    def _clear_padding(self, maps: np.ndarray, width: int, height: int) -> None:
        """Set the features of cells that show nothing of the source to 0, as gig-vad does: maps (n, H, W, D)."""
        for axis, room, length in zip((1, 2), (self.height, self.width), self._place(width, height)[::-1], strict=True):
            edges = np.arange(maps.shape[axis] + 1) * (room / maps.shape[axis])
            first = (room - length) // 2
            empty = (edges[1:] <= first) | (edges[:-1] >= first + length)
            np.moveaxis(maps, axis, 0)[empty] = 0

    def _write_maps(
        self, pictures: Iterable[np.ndarray], stream: IO[bytes], size: Callable[[], tuple[int, int]] | None
    ) -> tuple[np.ndarray, int, tuple[int, ...]]:
        """Write the maps of all windows, rounded as the detector stores them.

        Returns:
            Spans (W, 2), the number of frames, and the shape (H, W, D) of a map.
        """
        spans: list[tuple[int, int]] = []
        shape: tuple[int, ...] = ()
        windows = _windows(self._features(pictures), self._steps, self._stride)
        while batch := list(islice(windows, CLIPS_AT_ONCE)):
            clips = np.stack([features for _, features in batch], axis=1)  # (L, n, C, h, w)
            (maps,) = self._run("clips", features=clips)
            if self._fit == "letterbox" and size:
                self._clear_padding(maps, *size())
            shape = maps.shape[1:]
            stream.write(maps.astype(self._dtype).tobytes())
            spans += [(int(indices[0]), int(indices[-1])) for indices, _ in batch]
        if not spans:
            raise ValueError("expected at least one picture, got none")
        return np.array(spans, dtype=np.int64), spans[-1][1] + 1, shape

    def _features(self, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The early layers' output (C, h, w) of every picture."""
        rest, number = iter(pictures), 0
        while batch := list(islice(rest, PICTURES_AT_ONCE)):
            for picture in batch:
                if picture.shape != (self.height, self.width, 3) or picture.dtype != np.uint8:
                    raise ValueError(
                        f"picture {number}: expected ({self.height}, {self.width}, 3) uint8, got {picture.shape} "
                        f"{picture.dtype}; `prepare` makes such pictures of frames"
                    )
                number += 1
            (features,) = self._run("frames", images=np.stack(batch))
            yield from features

    def _window_scores(self, maps: np.ndarray) -> np.ndarray:
        """Scores (W, 1 + C) of the maps (W, H, W, D) of all windows."""
        scores = []
        highest = np.full((1, maps.shape[-1]), -np.inf, dtype=np.float32)
        lowest = np.full((1, *maps.shape[1:]), np.inf, dtype=np.float32)
        if self._scoring["cue"] == "running":  # every window is a bag of its own, with the cue up to it
            for part in _pieces(maps, WINDOWS_AT_ONCE):
                peaks = np.concatenate([highest, part.max(axis=(1, 2))])
                cues = np.maximum.accumulate(peaks)[1:]
                backgrounds = np.minimum.accumulate(np.concatenate([lowest, part]))[1:]
                highest, lowest = cues[-1:], backgrounds[-1:]
                cue, vectors = self._run("reduce", maps=part[:, None], cue=cues, background=backgrounds)
                scores.append(self._run("head", cue=cue, vectors=vectors)[0][:, 0])
            return np.concatenate(scores)
        for part in _pieces(maps, WINDOWS_AT_ONCE):
            highest = np.maximum(highest, part.max(axis=(0, 1, 2)))
            lowest = np.minimum(lowest, part.min(axis=0))
        context = self._context or 1
        size = -(-len(maps) // -(-len(maps) // context))  # parts of about equal length, within the head's context
        waiting: list[np.ndarray] = []
        for last, part in _with_last(_pieces(maps, WINDOWS_AT_ONCE)):
            cue, vectors = self._run("reduce", maps=part[None], cue=highest, background=lowest)
            waiting.append(vectors)
            if last or sum(each.shape[1] for each in waiting) >= size:
                scores.append(self._run("head", cue=cue, vectors=np.concatenate(waiting, axis=1))[0][0])
                waiting = []
        return np.concatenate(scores)

    def _by_frame(self, windows: np.ndarray, spans: np.ndarray, frames: int) -> Scores:
        """From scores of windows to smoothed scores of frames."""
        sigma, causal = self._scoring["smooth_sigma"], self._scoring["cue"] == "running"
        anomalous = windows[:, 1:]
        scores = np.column_stack([anomalous.max(axis=1), anomalous]).astype(np.float64)
        if self._scoring["smooth_on"] == "windows":
            scores = _smoothed(scores, sigma, causal)
        scores = _mean_of_windows(scores, spans, frames)
        if self._scoring["smooth_on"] == "frames":
            scores = _smoothed(scores, sigma, causal)
        by_class = scores[:, 1:].astype(np.float32)
        own = self.facts["head"]["own_score"]  # smoothed by itself where the head has a score besides its classes
        anomaly = scores[:, 0].astype(np.float32) if own else by_class.max(axis=1)
        return Scores(self.classes, by_class, anomaly, windows, spans)

    def _run(self, name: str, **inputs: np.ndarray) -> list[np.ndarray]:
        graph = self._graphs[name]
        wanted = {each.name for each in graph.get_inputs()}  # some heads take no cue or no background
        outputs: list[np.ndarray] = graph.run(None, {key: value for key, value in inputs.items() if key in wanted})
        return outputs


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected the description of an exported detector ({error})") from error
    if (found := facts.get("format")) not in FORMATS:
        known = " or ".join(map(str, FORMATS))
        raise ValueError(f"{path}: expected format {known}, got {found!r}; use the gig_onnx.py beside it")
    return facts


def _load(path: Path, digests: dict[str, str], options: ort.SessionOptions) -> ort.InferenceSession:
    content = path.read_bytes() if path.is_file() else b""
    if (found := hashlib.sha256(content).hexdigest()) != digests[path.name]:
        raise ValueError(f"{path}: expected SHA-256 {digests[path.name]}, got {found}; export the detector again")
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _upright_size(frame: Any, transposed: int) -> tuple[int, int]:
    """Width and height of a frame once it is upright."""
    return (frame.height, frame.width) if transposed else (frame.width, frame.height)


def _upright(frame: Any, width: int, height: int, turn: tuple[int, bool, bool]) -> np.ndarray:
    """(height, width, 3) uint8 RGB: resized in the frame's own orientation, then turned and mirrored."""
    transposed, left_right, upside_down = turn
    width, height = (height, width) if transposed else (width, height)
    # libswscale filters planes otherwise than packed pixels; this is the choice of gig-vad.
    planar = width % 2 and width < frame.width and height < frame.height
    image: np.ndarray = frame.reformat(
        width, height, "gbrp" if planar else "rgb24", interpolation="BILINEAR"
    ).to_ndarray()
    image = image.transpose(1, 0, 2) if transposed else image
    image = image[:, ::-1] if left_right else image
    return image[::-1] if upside_down else image


def _inside(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """The largest width and height of the same aspect within a room; the padding is as wide on either side."""
    factor = min(most_width / width, most_height / height)
    fitted = []
    for side, room in ((width * factor, most_width), (height * factor, most_height)):
        odd = room % 2
        fitted.append(min(room, max(2 - odd, odd + 2 * round((side - odd) / 2))))
    return fitted[0], fitted[1]


def _unnamed(cls: Any, value: int) -> Any:
    """A kind of side data that PyAV has no name for, such as EXIF, or the view of a stereo picture.

    Without this, one such kind beside a picture raises a ValueError, and the display matrix cannot be read.
    """
    kind = object.__new__(cls)
    kind._value_, kind._name_ = value, f"UNNAMED_{value}"
    return kind


def _turn(frame: Any) -> tuple[int, bool, bool]:
    """(transposed, left_right, upside_down) by the frame's display matrix; angles between are rounded."""
    from av.sidedata.sidedata import Type

    Type._missing_ = classmethod(_unnamed)  # type: ignore[assignment,method-assign]  # the hook of Enum, from outside
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _windows(features: Iterable[np.ndarray], steps: np.ndarray, stride: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sliding windows: numbers of their frames (L,) and outputs of these (L, C, h, w).

    The last one is moved so that it ends on the last frame; a video shorter than a window repeats its last frame.
    """
    span = int(steps[-1]) + 1
    held: deque[np.ndarray] = deque(maxlen=span)
    count, following = 0, 0

    def window(start: int) -> tuple[np.ndarray, np.ndarray]:
        indices = np.minimum(start + steps, count - 1)
        return indices, np.stack([held[i - count + len(held)] for i in indices])

    for each in features:
        held.append(each)
        count += 1
        if count == following + span:
            yield window(following)
            following += stride
    last = max(0, count - span)
    if count and (count < span or following - stride != last):
        yield window(last)


def _pieces(maps: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The maps in float32, some at a time."""
    for start in range(0, len(maps), size):
        yield maps[start : start + size].astype(np.float32)


def _with_last(parts: Iterable[np.ndarray]) -> Iterator[tuple[bool, np.ndarray]]:
    """Every part, and whether it is the last."""
    before: np.ndarray | None = None
    for part in parts:
        if before is not None:
            yield False, before
        before = part
    if before is not None:
        yield True, before


def _smoothed(scores: np.ndarray, sigma: float, causal: bool) -> np.ndarray:
    """A Gaussian filter along axis 0 with the edges repeated; a causal one is the half that looks back."""
    if sigma <= 0:
        return scores
    reach = int(REACH_SIGMAS * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights[reach + 1 :] *= 0 if causal else 1
    weights /= weights.sum()
    padded = np.pad(scores, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.correlate(column, weights, mode="valid") for column in padded.T], axis=1)


def _mean_of_windows(scores: np.ndarray, spans: np.ndarray, frames: int) -> np.ndarray:
    """Scores (W, K) of windows as the mean (frames, K) of those that cover a frame."""
    sums, counts = np.zeros((frames, scores.shape[1])), np.zeros((frames, 1))
    for (first, last), score in zip(spans, scores, strict=True):
        sums[first : last + 1] += score
        counts[first : last + 1] += 1
    return np.clip(sums / counts, scores.min(axis=0), scores.max(axis=0))


def main() -> None:
    """Write the scores of a video as CSV to standard output."""
    parser = argparse.ArgumentParser(description="Scores of a video's frames by an exported detector, as CSV.")
    parser.add_argument("video", type=Path)
    parser.add_argument("--detector", type=Path, default=Path(__file__).parent, help="The exported folder.")
    parser.add_argument("--threads", type=int, default=0, help="Of onnxruntime; 0: one per core.")
    options = parser.parse_args()
    try:
        found = ExportedDetector(options.detector, options.threads).score_video(options.video)
    except (OSError, ValueError) as error:  # those of PyAV are either
        sys.exit(f"Error: {error}")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["frame", "time_s", "score", *found.classes])
    times = found.times_s if found.times_s is not None else np.full(len(found.frames), math.nan)
    for number, (time_s, score, row) in enumerate(zip(times, found.anomaly, found.frames, strict=True)):
        table.writerow([number, f"{time_s:.6f}", f"{score:.7g}", *(f"{value:.7g}" for value in row)])


if __name__ == "__main__":
    main()
