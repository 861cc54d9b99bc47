"""Videos to score, here or in a storage that fsspec reaches, each with the name of its score table."""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cache.names import escape
from pipeline.data.datasets.video_files import VIDEO_SUFFIXES
from pipeline.data.decoding.decode import content_sha256
from pipeline.errors import DecodeError, PipelineError
from pipeline.progress import Say
from pipeline.remote import VERSIONS, WEB, public, scheme_of
from pipeline.stages.common.outputs import check_space

__all__ = ["LocalVideo", "RemoteVideo", "Video", "by_name", "file_version", "remote_videos"]

TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
"""By what storages say when an object has changed; the first that is there counts."""

JUST_S = 2.0


def file_version(found: os.stat_result) -> str:
    """Size, times and inode of a file. The time of change is among them: a program can set the other one back."""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


class Video(Protocol):
    """A video to score.

    Attributes:
        name: of its score table.
        given: as a person named it.
        place: where it lies, as index.json says it.
    """

    @property
    def name(self) -> str:
        """Of its score table."""
        ...

    @property
    def given(self) -> str:
        """As a person named it."""
        ...

    @property
    def place(self) -> str:
        """Where it lies."""
        ...

    def unchanged(self, source: Mapping[str, Any]) -> bool:
        """Whether it is known to have the content from which a table was made, whose entry `source` this is."""
        ...

    def facts(self) -> dict[str, object]:
        """What the entry of its table says besides path, bytes and SHA-256; asked for before the content is read.

        Where it is known, `version` is a text that changes with the content. Raises OSError.
        """
        ...

    def fetch(self, folder: Path) -> Path:
        """The file to decode; one that lies elsewhere is copied to the folder. Raises OSError."""
        ...

    def let_go(self, folder: Path) -> None:
        """Remove its copy in the folder, if there is one."""
        ...


@dataclass(frozen=True)
class LocalVideo:
    """A video file or folder of images of this machine.

    Attributes:
        name: of its score table.
        file: the file or folder.
    """

    name: str
    file: Path

    @property
    def given(self) -> str:
        return str(self.file)

    @property
    def place(self) -> str:
        return str(self.file.resolve())

    def unchanged(self, source: Mapping[str, Any]) -> bool:
        """As of `Video`: by size, times and inode, or where these differ, by the content.

        Raises OSError or DecodeError where it cannot be read.
        """
        version = self.facts().get("version")
        if version is not None and (version, self.place) == (source.get("version"), source["path"]):
            return True
        return bool(source["sha256"] == content_sha256(self.file))

    def facts(self) -> dict[str, object]:
        """No version of a file that has just been changed: what came next could have the same times."""
        if self.file.is_dir():
            return {}
        found = self.file.stat()
        settled = time.time() - max(found.st_mtime, found.st_ctime) > JUST_S
        return {"version": file_version(found)} if settled else {}

    def fetch(self, folder: Path) -> Path:
        return self.file

    def let_go(self, folder: Path) -> None:
        """Nothing: it is no copy."""


@dataclass(frozen=True)
class RemoteVideo:
    """A video file of another storage; its copy lies below a folder while it is scored.

    Attributes:
        name: of its score table.
        url: by which it is read; it can hold a password or a signature, so messages and files have `place`.
        bytes: its size, where the storage says it.
        version: changes with the content; None where the storage says nothing.
        modified_s: when it was last changed, seconds since 1970; None where the storage says nothing.
    """

    name: str
    url: str
    bytes: int | None
    version: str | None
    modified_s: float | None = None

    @property
    def given(self) -> str:
        return self.place

    @property
    def place(self) -> str:
        return public(self.url)

    def unchanged(self, source: Mapping[str, Any]) -> bool:
        known = self.version is not None and source.get("version") == self.version
        return known and source["path"] == self.place

    def facts(self) -> dict[str, object]:
        return {"version": self.version}

    def fetch(self, folder: Path) -> Path:
        path = self._copy(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, self.bytes or 0)
        try:
            with _reaching(self.place):
                file_system, remote = _file_system(self.url)
                file_system.get_file(remote, str(path))
        except PipelineError:
            self.let_go(folder)
            raise
        return path

    def let_go(self, folder: Path) -> None:
        shutil.rmtree(self._copy(folder).parent, ignore_errors=True)

    def _copy(self, folder: Path) -> Path:
        return folder / escape(self.name) / f"video{Path(self.name).suffix}"


def remote_videos(url: str) -> tuple[list[RemoteVideo], list[str]]:
    """The video of a URL, or all videos below a folder of a storage, and the names that were passed over.

    On the web a URL is of one file, since nothing lists folders there; elsewhere one that is a folder is walked.

    Raises PipelineError for a storage that fsspec does not know or that cannot be reached, DecodeError for a URL where
    nothing lies.
    """
    if "://" not in url or "::" in url:
        raise PipelineError(f"{url.split('?')[0]}: expected a URL such as s3://bucket/folder, and no chain of several")
    place = public(url)
    with _reaching(place):
        file_system, root = _file_system(url)
        if _is_web(url) or not file_system.isdir(root):
            return [_video(place.rstrip("/").rsplit("/", 1)[-1], url, file_system.info(root))], []
        root = root.rstrip("/")
        start, found, passed = url.rstrip("/"), [], []
        for path, info in sorted(file_system.find(root, detail=True).items()):
            below = path[len(root) :].lstrip("/")
            hidden = any(part.startswith(".") for part in below.split("/"))
            if hidden or not below.lower().endswith(VIDEO_SUFFIXES):
                passed.append(f"{place.rstrip('/')}/{below}")
            else:
                found.append(_video(below, f"{start}/{below}", info))
        return found, passed


def _video(name: str, url: str, info: Mapping[str, Any]) -> RemoteVideo:
    size = info.get("size")
    marks = [str(info[key]) for key in VERSIONS if info.get(key)]
    times = [time_s for key in TIMES if (time_s := _seconds(info.get(key))) is not None]
    return RemoteVideo(name, url, size, f"{marks[0]} {size}" if marks else None, times[0] if times else None)


def _seconds(value: object) -> float | None:
    """Seconds since 1970 of a time as storages say it; None where it is none."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime.datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    file_system, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return file_system, str(path)


def _is_web(url: str) -> bool:
    return scheme_of(url) in WEB


@contextmanager
def _reaching(place: str) -> Iterator[None]:
    """Turn the errors of storages, which are of any type, into errors that name the place."""
    try:
        yield
    except PipelineError:
        raise
    except FileNotFoundError as error:
        raise DecodeError(f"{place}: nothing lies there") from error
    except ImportError as error:
        raise PipelineError(f"{place}: a package is missing for this storage ({error})") from error
    except ValueError as error:
        raise PipelineError(
            f"{place}: expected a path of this machine, or a URL of a storage that fsspec reaches, such as s3://, "
            f"gs:// or https:// ({str(error)[:200]})"
        ) from error
    except Exception as error:  # a storage's own
        said = str(error).split(", url=")[0][:200]  # the web's repeat the URL with its signature
        raise DecodeError(f"{place}: cannot be read: {type(error).__name__}: {said}") from error


def by_name(videos: Sequence[Video], say: Say) -> dict[str, Video]:
    """The videos by name. Raises PipelineError when two have the same name."""
    named: dict[str, Video] = {}
    for video in videos:
        before = named.get(video.name)
        if before and before.place != video.place:
            raise PipelineError(
                f"{before.given} and {video.given}: two videos of the same name would share a score table; "
                "score them into different --out folders"
            )
        if before:
            say(f"{video.given} was given twice; it is scored once")
        named[video.name] = video
    return named
