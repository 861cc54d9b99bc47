"""What a person names to be scored: files, folders, lists of them, and URLs, as videos with the names of their tables.

A file's table has the name of the file; that of a video found below a folder has its path below that folder, so that
cameras with equal file names keep apart.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.mirrors import url_scheme
from pipeline.data.datasets.video_files import VIDEO_SUFFIXES, video_files
from pipeline.data.decoding.image_folder import IMAGE_SUFFIXES
from pipeline.data.problems import Problems
from pipeline.errors import DecodeError, PipelineError
from pipeline.stages.scoring.sources import LocalVideo, Video, remote_videos

__all__ = ["Inputs", "find_videos"]

LIST = "@"
COMMENT = "#"
FILE = "file://"


@dataclass(frozen=True)
class Inputs:
    """What was found.

    Attributes:
        videos: to score, in the order in which they were named.
        passed_over: files and folders below the named folders that are no videos.
        unreachable: what was named or lies below it and cannot be looked at, one sentence each.
    """

    videos: tuple[Video, ...]
    passed_over: tuple[str, ...]
    unreachable: tuple[str, ...]


def find_videos(named: Sequence[str], out: Path | None = None) -> Inputs:
    """The videos that are meant.

    Args:
        named: paths of files and folders, URLs, and lists: `@file` has one of these per line, `@-` reads them from
            standard input. Empty lines and those that begin with `#` say nothing. A path in a list is found, like any
            other, from the folder in which the program runs. A folder of images is a video, unless videos lie in it.
        out: the folder of the tables; what lies in it is not told as passed over.

    Raises:
        PipelineError: a list cannot be read, or a URL is of a storage that is not known.
    """
    videos: list[Video] = []
    passed: list[str] = []
    unreachable: list[str] = []
    for text in _spelled_out(named):
        scheme = url_scheme(text)
        if scheme and scheme != "file":
            try:
                found, left = remote_videos(text)
            except DecodeError as error:
                unreachable.append(str(error))
                continue
            videos += found
            passed += left
            continue
        path = Path(text.removeprefix(FILE))
        if not path.is_dir():
            videos.append(LocalVideo(path.absolute().name, path))
            continue
        below, left_here, faults = _walk(path)
        videos += below
        unreachable += faults
        passed += [str(p) for p in left_here if out is None or not p.resolve().is_relative_to(out.resolve())]
    return Inputs(tuple(videos), tuple(passed), tuple(unreachable))


def _spelled_out(named: Sequence[str]) -> list[str]:
    """The names with every list replaced by what it holds; a list names no further lists."""
    found = []
    for name in named:
        if not name.startswith(LIST):
            found.append(name)
            continue
        try:
            text = sys.stdin.read() if name == "@-" else Path(name[1:]).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeError) as error:
            raise PipelineError(f"{name[1:]}: the list of videos cannot be read ({error})") from error
        found += [line for line in text.splitlines() if line.strip() and not line.startswith(COMMENT)]
    return found


def _walk(folder: Path) -> tuple[list[LocalVideo], list[Path], list[str]]:
    """The videos below a folder, what was passed over, and what cannot be read."""
    passed: list[Path] = []
    problems = Problems()
    found = video_files(folder, problems, passed_over=passed.append)
    inside = [path for path in passed if path.parent == folder and path.name.lower().endswith(IMAGE_SUFFIXES)]
    images = [path for path in inside if path.is_file() and not path.name.startswith(".")]
    if images and not any(path.parent == folder and path.is_file() for path in found):
        rest = [path for path in passed if path not in images]
        return [LocalVideo(folder.absolute().name, folder)], [*rest, *found], problems.lines
    # A folder of videos with a picture beside them is no folder of images.
    mixed = {path.parent for path in found if path.name.lower().endswith(VIDEO_SUFFIXES) and path.is_file()}
    videos = [LocalVideo(path.relative_to(folder).as_posix(), path) for path in found if path not in mixed]
    passed += [image for path in found if path in mixed for image in _images(path)]
    return videos, passed, problems.lines


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(IMAGE_SUFFIXES))
