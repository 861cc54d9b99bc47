"""The index of a folder that `gig score` writes: which table belongs to which file, and how it was made.

Every table carries its own facts, so that they are written in one step with it; `index.json` gathers them in the form
that the pipeline's own score folders have. All tables of a folder are made with one head and one set of settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError
from pipeline.hashing import file_sha256
from pipeline.stages.common.outputs import whole_file
from pipeline.stages.scoring.sources import Video
from pipeline.stages.scoring.video_scores import table_facts, table_path

__all__ = ["ScoreIndex", "check_same"]

Sections = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class ScoreIndex:
    """The index of one folder, for one head and its settings.

    Attributes:
        folder: where the tables lie.
        made_with: what decides the scores besides the video: section -> setting -> value.
        about: further entries of index.json.
        videos: video id -> its entry.
    """

    folder: Path
    made_with: Sections
    about: Mapping[str, object]
    videos: dict[str, dict[str, Any]]

    @classmethod
    def open(cls, folder: Path, made_with: Sections, about: Mapping[str, object]) -> ScoreIndex:
        """Read what the folder holds, if anything. Raises OutputError when something else was made there."""
        path = folder / "index.json"
        if not path.exists():
            return cls(folder, made_with, about, {})
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            held, videos = document["made_with"], document["videos"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{path}: not an index of `gig score` ({error!r}); remove the folder or give another --out"
            ) from error
        check_same(path, held, made_with)
        return cls(
            folder,
            made_with,
            about,
            {video_id: entry for video_id, entry in videos.items() if _lies_there(folder, entry)},
        )

    def check(self, video_id: str, video: Video) -> bool:
        """Whether the table of a file is there already and holds what scoring the file again would give.

        Of a file that lies elsewhere the version is compared, where the storage states one, for its content is not
        known before it is copied.

        Args:
            video_id: names the table.
            video: the video.

        Raises:
            OutputError: the table is that of another file, or of other settings.
            OSError, DecodeError: the video cannot be read.
        """
        path = table_path(self.folder, video_id)
        if not path.exists():
            return False
        facts = table_facts(path)
        if facts is None or "source" not in facts:
            raise OutputError(
                f"{path} is there already and does not say of which file; remove it or give another --out"
            )
        held = self.videos.get(video_id, {}).get("source", {})
        # The index knows where the content was seen last.
        source = {**facts["source"], **(held if held.get("sha256") == facts["source"]["sha256"] else {})}
        same = video.unchanged(source)
        if source["path"] != video.place and not same:
            raise OutputError(
                f"{path} is the score table of {source['path']}, not of {video.place}; give another --out"
            )
        check_same(path, facts["made_with"], self.made_with)
        return same and self._whole(video_id)

    def holds(self, video_id: str, content: str) -> bool:
        """Whether the table of a video is there already and was made from this content, by its SHA-256."""
        path = table_path(self.folder, video_id)
        facts = table_facts(path) if path.exists() else None
        return facts is not None and facts["source"]["sha256"] == content and self._whole(video_id)

    def _whole(self, video_id: str) -> bool:
        """Whether the tables of a video are as they were written, as far as that is known."""
        path, entry = table_path(self.folder, video_id), self.videos.get(video_id)
        damaged = entry is not None and entry["sha256"] != file_sha256(path)
        return not damaged and (self.folder / "windows" / path.name).exists()

    def add(self, video_id: str, seen: Mapping[str, object] | None = None) -> None:
        """Enter a table into index.json.

        Args:
            video_id: of the table, which was just written or found good by `check`.
            seen: where its content was seen now, and by which version.
        """
        path = table_path(self.folder, video_id)
        facts = table_facts(path)
        assert facts is not None
        entry = {key: facts[key] for key in ("decoded_frames", "source", "damage")}
        entry["source"] = {**entry["source"], **(seen or {})}
        self.videos[video_id] = {"file": path.name, "sha256": file_sha256(path)} | entry
        self._write()

    def _write(self) -> None:
        document = {**self.about, "made_with": self.made_with, "videos": dict(sorted(self.videos.items()))}
        with whole_file(self.folder / "index.json") as partial:
            partial.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")


def _lies_there(folder: Path, entry: Mapping[str, str]) -> bool:
    return (folder / "frames" / entry["file"]).exists()


def check_same(
    path: Path, held: Sections, wanted: Sections, advice: str = "remove the folder or give another --out"
) -> None:
    """Check that what is there was made with the head and settings that are at hand.

    Args:
        path: what is there, for the message.
        held: section -> setting -> value, of what is there.
        wanted: the same, at hand.
        advice: what a person can do, for the message.

    Raises:
        OutputError: they differ; the message names every setting that does.
    """
    before, now = _flat(held), _flat(wanted)
    names: Sequence[str] = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
    if names:
        absent = "not named"  # as a setting that came later is, where it has its default
        lines = "\n".join(f"  {name}: there {before.get(name, absent)}, here {now.get(name, absent)}" for name in names)
        raise OutputError(f"{path}: made with another head or other settings; {advice}\n{lines}")


def _flat(sections: Sections) -> dict[str, object]:
    return {f"{section}.{key}": value for section, settings in sections.items() for key, value in settings.items()}
