"""Score tables of any system brought into the form of a run's, so that a video can be read again at any time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError
from pipeline.stages.events.videos import ScoredVideo

__all__ = ["ScratchTables"]


class ScratchTables:
    """Score tables that are being written, a video at a time, with an index as `RunResults` reads it.

    Args:
        folder: where they go; made here.
        classes: the columns of class scores, where videos have any.

    Attributes:
        frames: video id -> number of frames, of the videos so far.
        paths: video id -> where the video lies, as far as that is known.
    """

    def __init__(self, folder: Path, classes: tuple[str, ...]) -> None:
        self.folder, self.classes = folder, classes
        self.frames: dict[str, int] = {}
        self.paths: dict[str, str] = {}
        self._low, self._high, self._held = 0.0, 1.0, False
        (folder / "frames").mkdir(parents=True)

    def add(self, video: ScoredVideo) -> None:
        """Write one video's scores. Raises PipelineError for one that is no finite number."""
        held = video.classwise is not None
        if self.frames and held != self._held:
            raise PipelineError(f"{video.video_id}: its scores and those of other videos differ in having class scores")
        columns = {"score": video.general}
        if video.classwise is not None:
            columns |= {name: video.classwise[:, number] for number, name in enumerate(self.classes)}
        for name, values in columns.items():
            if not np.isfinite(values).all():
                frame = int(np.argmin(np.isfinite(values)))
                raise PipelineError(f"{video.video_id}, {name}, frame {frame}: expected a score, got {values[frame]}")
            self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        number = len(self.frames)
        pq.write_table(pa.table({"time_s": video.times_s, **columns}), self.folder / "frames" / f"{number}.parquet")
        self.frames[video.video_id], self._held = len(video.general), held
        if video.source:
            self.paths[video.video_id] = video.source

    @property
    def reach(self) -> tuple[float, float] | None:
        """Lowest and highest score, where one is not from 0 to 1."""
        return None if (self._low, self._high) == (0.0, 1.0) else (self._low, self._high)

    def close(self) -> Path:
        """Write the index; returns the folder."""
        videos = {
            video_id: {"file": f"{number}.parquet", "decoded_frames": frames}
            for number, (video_id, frames) in enumerate(self.frames.items())
        }
        document = {"classes": self.classes if self._held else [], "videos": videos}
        (self.folder / "index.json").write_text(json.dumps(document), encoding="utf-8")
        return self.folder
