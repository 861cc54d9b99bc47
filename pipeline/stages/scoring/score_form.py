"""What the scores of other systems stand for, and how they become a score for every frame.

Nothing is cut, padded or left out unless it was asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.data.sampling import segment_bounds
from pipeline.data.windows import windows_to_frames
from pipeline.errors import LengthMismatch, PipelineError

__all__ = ["TAILS", "ScoreForm", "per_frame"]

TAILS = ("exact", "partial", "repeat")


@dataclass(frozen=True)
class ScoreForm:
    """How the files of another system are to be read.

    Attributes:
        stride: frames per score; 1 means one score per frame.
        tail: what the last frames get, as in `per_frame`.
        clip_frames: there is one score per frame, made from whole clips of this many frames. The scores end with the
            last whole clip, and the frames after it have none; or the last clip was filled up, and the surplus scores
            are left out.
        equal_parts: the scores are of equal parts of a video, however long it is.
        suffix: end of the names of files, or of arrays in a file, that is not part of the video id, such as `_pred`.
        order: file that lists the videos whose scores lie one after the other in a single array.
        crops: `mean` when there are scores of several crops of a frame, which are to be averaged.
        array: name of the array in files that hold several.
    """

    stride: int = 1
    tail: str = "exact"
    clip_frames: int | None = None
    equal_parts: bool = False
    suffix: str = ""
    order: Path | None = None
    crops: str | None = None
    array: str | None = None

    def __post_init__(self) -> None:
        if self.tail not in TAILS:
            raise PipelineError(f"tail: expected one of {', '.join(TAILS)}, got {self.tail!r}")
        ways = [(self.stride, self.tail) != (1, "exact"), self.clip_frames is not None, self.equal_parts]
        if sum(ways) > 1:
            raise PipelineError(
                "scores are of a stride, of whole clips, or of equal parts of a video: give one of the three"
            )

    def facts(self) -> dict[str, object]:
        """For a report: stride and tail, and every other setting that is not the default."""
        plain = asdict(self) | {"order": self.order and self.order.name}
        return {
            key: value for key, value in plain.items() if key in ("stride", "tail") or value not in (None, False, "")
        }

    def counts(self, frames: int) -> tuple[int, ...]:
        """How many scores a video of this many frames may have.

        Returns:
            With `clip_frames` three numbers: without the last clip that is not whole, with it filled up, or one per
            frame. With `equal_parts`, where any number is right, and for a stride that does not fit, none. Else one.
        """
        if self.equal_parts:
            return ()
        if self.clip_frames:
            whole = max(1, frames // self.clip_frames) * self.clip_frames
            return whole, frames + (-frames % self.clip_frames), frames
        expected = _expected(frames, self.stride, self.tail)
        return () if expected is None else (expected,)

    def to_frames(self, video_id: str, scores: np.ndarray, frames: int) -> np.ndarray:
        """One score for every frame, (n, ...) -> (N, ...); with `clip_frames` the scores as they are.

        Raises LengthMismatch for a number of scores that is not among `counts`.
        """
        if self.equal_parts:
            return _by_proportion(scores, frames)
        if not self.clip_frames:
            return per_frame(video_id, scores, frames, self.stride, self.tail)
        if len(scores) not in (counts := self.counts(frames)):
            needed = " or ".join(str(count) for count in sorted(set(counts)))
            raise LengthMismatch(
                f"{video_id}: {len(scores)} scores for {frames} frames; "
                f"whole clips of {self.clip_frames} frames need {needed}"
            )
        return scores


def per_frame(video_id: str, scores: np.ndarray, frames: int, stride: int, tail: str) -> np.ndarray:
    """One score for every frame: score i stands for frames [i * stride, (i + 1) * stride).

    Args:
        video_id: for messages.
        scores: (n, ...) float.
        frames: N.
        stride: frames per score.
        tail: what the last N mod stride frames get. `exact`: there are no such frames. `partial`: the last score.
            `repeat`: there is no score for them, and they get that of the frames before them.

    Returns:
        (N, ...) float.

    Raises:
        LengthMismatch: n does not fit stride and tail.
    """
    if tail not in TAILS:
        raise ValueError(f"tail: expected one of {', '.join(TAILS)}, got {tail!r}")
    if stride < 1:
        raise ValueError(f"stride: expected 1 or more, got {stride}")
    expected = _expected(frames, stride, tail)
    if len(scores) != expected:
        what = f"{len(scores)} scores for {frames} frames"
        if stride > 1 or tail != "exact":
            needed = f"{expected} scores" if expected is not None else f"a multiple of {stride} frames"
            what += f"; stride {stride} and tail {tail} need {needed}"
        raise LengthMismatch(f"{video_id}: {what}")
    return scores[np.minimum(np.arange(frames) // stride, len(scores) - 1)]


def _expected(frames: int, stride: int, tail: str) -> int | None:
    whole, rest = divmod(frames, stride)
    return {"exact": None if rest else whole, "partial": whole + bool(rest), "repeat": max(1, whole)}[tail]


def _by_proportion(scores: np.ndarray, frames: int) -> np.ndarray:
    """Each frame gets the mean of the parts it lies in: one, unless there are more parts than frames."""
    bounds = segment_bounds(frames, len(scores))
    spans = np.stack([bounds[:, 0], bounds[:, 1] - 1], axis=1)
    return windows_to_frames(scores.reshape(len(scores), -1), spans, frames).reshape(frames, *scores.shape[1:])
