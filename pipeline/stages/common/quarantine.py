"""Videos that could not be read: one record each, so that a run finishes the rest and says what it left out.

The folder belongs to one state of the video files and one `decoding` policy: when either changes, every video is tried
again. Until then a video in quarantine is not touched, unless `gig quarantine clear` removes its record. The ids in
quarantine are part of the digests of all outputs that are made without these videos.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cache.names import escape
from pipeline.errors import DecodeError, PipelineError, QuarantineExceeded
from pipeline.stages.common.outputs import locked, whole_file
from pipeline.stages.common.shared_files import has_shared, put_shared, remove_shared, sync

__all__ = ["Quarantine", "QuarantineRecord"]


@dataclass(frozen=True)
class QuarantineRecord:
    """Why a video was left out.

    Attributes:
        video_id: which video.
        path: its path, as in the manifest.
        split: `train` or `test`.
        reason: what went wrong.
        frame: frames that were decoded before; None if that is not known.
        library: the decoding library's own message; None if something else failed.
        time: ISO 8601, UTC.
    """

    video_id: str
    path: str
    split: str
    reason: str
    frame: int | None
    library: str | None
    time: str


class Quarantine:
    """The records in one folder.

    Args:
        folder: need not exist as long as no video is in quarantine.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, video_id: str, path: str, split: str, error: Exception) -> QuarantineRecord:
        """Record why a video could not be read; replaces an earlier record."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        frame, library = (error.frame, error.library) if isinstance(error, DecodeError) else (None, None)
        record = QuarantineRecord(video_id, path, split, str(error), frame, library, now)
        final = self._path(video_id)
        content = json.dumps(asdict(record), indent=1, ensure_ascii=False).encode()
        with locked(final), whole_file(final) as partial:
            put_shared(final, content)
            partial.write_bytes(content)
        return record

    def records(self, split: str | None = None, *, again: bool = True) -> list[QuarantineRecord]:
        """All records, or those of a split, sorted by video id. Raises PipelineError for a damaged record.

        Args:
            split: `train`, `test`, or None for both.
            again: where they are shared with other machines, list them again; else as `forget_listings` says.
        """
        sync(self.folder, again)
        found = []
        for path in self.folder.glob("*.json"):
            try:
                found.append(QuarantineRecord(**json.loads(path.read_text(encoding="utf-8"))))
            except FileNotFoundError:
                continue  # cleared in the meantime
            except (OSError, TypeError, ValueError) as error:
                raise PipelineError(
                    f"{path}: not a quarantine record ({error}); remove it to try the video again"
                ) from error
        return sorted((r for r in found if split in (None, r.split)), key=lambda r: r.video_id)

    def has(self, video_id: str) -> bool:
        """Whether a video is in quarantine."""
        return has_shared(self._path(video_id))

    def ids(self, split: str | None = None) -> list[str]:
        """Ids of the videos in quarantine, of one split or of all, sorted."""
        return [record.video_id for record in self.records(split, again=False)]

    def reasons(self, split: str) -> dict[str, str]:
        """Video id -> what went wrong, of the videos of a split in quarantine, sorted."""
        return {record.video_id: record.reason for record in self.records(split, again=False)}

    def clear(self, video_ids: Iterable[str] | None = None) -> list[str]:
        """Remove the records of some videos, or of all, so that they are tried again.

        Returns:
            The ids of these videos.

        Raises:
            PipelineError: an id is not in quarantine.
        """
        present = [record.video_id for record in self.records()]
        chosen = present if video_ids is None else list(video_ids)
        for video_id in chosen:
            if video_id not in present:
                raise PipelineError(f"{video_id}: not in quarantine; there are: {', '.join(present) or 'none'}")
        for video_id in chosen:
            remove_shared(self._path(video_id))
        return chosen

    def within(self, most: int) -> bool:
        """Whether no more than `most` videos are in quarantine."""
        return len(self.ids()) <= most

    def check(self, most: int) -> None:
        """Raise QuarantineExceeded, which lists all records, if more than `most` videos are in quarantine."""
        records = self.records()
        if len(records) > most:
            lines = "\n".join(f"  {r.video_id} ({r.split}): {r.reason}" for r in records)
            raise QuarantineExceeded(
                f"{len(records)} video(s) could not be read, machine.max_quarantined is {most}; "
                f"everything else is done\n{lines}\n"
                "Repair or remove them, have them tried again with `gig quarantine clear`, or accept them by raising "
                "machine.max_quarantined."
            )

    def _path(self, video_id: str) -> Path:
        return self.folder / f"{escape(video_id)}.json"
